// The risk curve reads out what a threshold does.
for (const readout of document.querySelectorAll(".readout")) {
  const points = JSON.parse(readout.dataset.points);
  const slider = readout.querySelector("input");
  const marker = readout.parentElement.querySelector("svg .marker");
  const left = Number(marker.getAttribute("data-left")), side = Number(marker.getAttribute("data-side"));
  const update = () => {
    const [coverage, risk, threshold] = points[Number(slider.value)];
    const words = `threshold ${threshold.toFixed(3)}: answers ${(100 * coverage).toFixed(1)}%, of those ${(100 * risk).toFixed(1)}% wrong`;
    readout.querySelector("output").textContent = words;
    slider.setAttribute("aria-valuetext", words);
    for (const end of ["x1", "x2"]) marker.setAttribute(end, String(left + coverage * side));
  };
  slider.max = String(points.length - 1);
  slider.value = readout.dataset.first;
  slider.addEventListener("input", update);
  readout.hidden = false;
  update();
}
