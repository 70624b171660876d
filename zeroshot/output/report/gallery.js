// The gallery: narrowed, ordered, and shown page by page, so that 5,000 cards cost no more than sixty.
const gallery = document.querySelector(".gallery") && (() => {
  const PAGE = 60;
  const root = document.querySelector(".gallery");
  const list = root.querySelector(".cards");
  const form = root.querySelector("form.filter");
  const pager = root.querySelector(".pager");
  const names = [...form.elements.namedItem("answer").options].slice(1).map((option) => option.textContent);
  const cards = [...list.children].map((element, index) => ({
    element, index,
    given: element.dataset.given ?? "",
    answer: element.dataset.answer ?? "",
    views: element.dataset.views.split(" "),
    confidence: Number(element.dataset.confidence),
    path: JSON.parse(element.dataset.path),
    ticked: false,
  }));
  let shown = cards, page = 0;
  const field = (name) => form.elements.namedItem(name);
  const text = (name) => field(name)?.value ?? "";
  const bound = (name, otherwise) => (text(name) === "" ? otherwise : Number(text(name)));
  const orders = {
    unsure: (a, b) => a.confidence - b.confidence || a.index - b.index,
    sure: (a, b) => b.confidence - a.confidence || a.index - b.index,
    listed: (a, b) => a.index - b.index,
    path: (a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }),
  };
  const prepare = (card) => {
    if (card.box) return;
    const image = card.element.querySelector("img, .nothing");
    const open = document.createElement("button");
    open.type = "button";
    open.className = "open";
    image.replaceWith(open);
    open.append(image);
    open.addEventListener("click", () => document.dispatchEvent(new CustomEvent("view-card", { detail: card })));
    card.box = document.createElement("input");
    card.box.type = "checkbox";
    card.box.className = "tick";
    card.box.setAttribute("aria-label", `Tick ${card.path}`);
    card.box.addEventListener("change", () => { card.ticked = card.box.checked; document.dispatchEvent(new Event("ticked")); });
    card.element.prepend(card.box);
  };
  const lay = () => {
    const part = shown.slice(page * PAGE, (page + 1) * PAGE);
    part.forEach(prepare);
    list.replaceChildren(...part.map((card) => card.element));
    const pages = Math.ceil(shown.length / PAGE);
    pager.hidden = pages < 2;
    pager.querySelector("span").textContent = `${page * PAGE + 1} to ${page * PAGE + part.length} of ${shown.length}`;
    pager.querySelector("[data-step='-1']").disabled = page === 0;
    pager.querySelector("[data-step='1']").disabled = page + 1 >= pages;
  };
  const update = () => {
    const view = text("view"), given = text("given"), answer = text("answer");
    const from = bound("from", 0), to = bound("to", 100);
    shown = cards.filter((card) =>
      (view === "" || view === "all" || card.views.includes(view)) &&
      (given === "" || card.given === given) && (answer === "" || card.answer === answer) &&
      card.confidence >= from && card.confidence <= to);
    shown.sort(orders[text("sort")]);
    page = 0;
    form.querySelector("output").textContent = `${shown.length} of ${cards.length} images`;
    lay();
  };
  const useViewsOrder = () => {
    const chosen = form.querySelector("input[name=view]:checked");
    if (chosen) field("sort").value = chosen.dataset.sort;
  };
  const show = (wanted) => {
    form.reset();
    if (field("view")) field("view").value = wanted.view ?? "all";
    useViewsOrder();
    for (const name of ["given", "answer", "from", "to"]) {
      if (wanted[name] !== undefined && field(name)) field(name).value = wanted[name];
    }
    update();
  };
  form.addEventListener("input", (event) => { if (event.target.name === "view") useViewsOrder(); update(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("button[type=reset]").addEventListener("click", (event) => { event.preventDefault(); show({}); });
  pager.addEventListener("click", (event) => {
    if (!event.target.dataset.step) return;
    page += Number(event.target.dataset.step);
    lay();
    root.scrollIntoView();
  });
  for (const link of document.querySelectorAll("a.show")) link.addEventListener("click", () => show({ ...link.dataset }));
  form.hidden = false;
  useViewsOrder();
  update();
  return { root, cards, names, show, shown: () => shown, onPage: () => shown.slice(page * PAGE, (page + 1) * PAGE) };
})();
