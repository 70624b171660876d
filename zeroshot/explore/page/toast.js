// One line that says what was done, and goes away; above an open dialog, and within it, or its button could not be pressed.
const element = document.getElementById("toast");
let timer = 0;

const raise = () => {
  if (element.matches(":popover-open")) element.hidePopover();
  const dialog = [...document.querySelectorAll("dialog[open]")].pop();
  (dialog ?? document.body).append(element);
  element.showPopover();
};

export const toast = (text, undo = false) => {
  element.querySelector("span").textContent = text;
  element.querySelector("button").hidden = !undo;
  raise();
  clearTimeout(timer);
  timer = setTimeout(() => { element.hidePopover(); }, undo ? 6000 : 4000);
};

// A dialog that closes does not take it along.
for (const dialog of document.querySelectorAll("dialog"))
  dialog.addEventListener("close", () => { if (dialog.contains(element) && element.matches(":popover-open")) raise(); });
