// Shows a one-line message for a few seconds, with a button to undo. It is moved into an open dialog, since a button outside could not be pressed.
const element = document.getElementById("toast");
let timer = 0;

// Whether the toast had the focus, which its button loses where it goes; then what is in sight gets it.
const release = (held) => {
  const places = ["dialog[open] [autofocus]", "#map-canvas", "#board"].map((one) => document.querySelector(one));
  if (held) places.find((one) => one?.checkVisibility())?.focus();
};
const hide = () => {
  const held = element.contains(document.activeElement);
  element.hidePopover();
  release(held);
};

const raise = () => {
  if (element.matches(":popover-open")) element.hidePopover();
  const dialog = [...document.querySelectorAll("dialog[open]")].pop();
  (dialog ?? document.body).append(element);
  element.showPopover();
};

export const toast = (text, undo = false) => {
  const held = element.contains(document.activeElement);
  element.querySelector("span").textContent = text;
  element.querySelector("button").hidden = !undo;
  raise();
  release(held);
  clearTimeout(timer);
  timer = setTimeout(hide, undo ? 6000 : 4000);
};

// A dialog that closes does not take it along.
for (const dialog of document.querySelectorAll("dialog"))
  dialog.addEventListener("close", () => { if (dialog.contains(element) && element.matches(":popover-open")) raise(); });
