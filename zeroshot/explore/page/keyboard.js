// The keys of the page, outside of fields and dialogs.
const $ = (id) => document.getElementById(id);

export const listenForKeys = ({ board, correcting, folderMap, viewer, escape, grid, nudge }) => {
  const keys = {
    l: () => $("labels").focus(), "/": () => $("query").focus(), "?": () => $("keys").showModal(), g: grid,
    v: () => (folderMap.isOpen ? folderMap.close() : folderMap.open()), "[": () => nudge(-0.02), "]": () => nudge(0.02),
  };
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.matches("input:not([type=range]):not([type=radio]), textarea, select");
    if (event.key === "Escape") { escape(event, typing); return; }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const onBoard = !event.target.closest("button, summary, a, [type=range], [type=radio]") || event.target.closest("#board");
    if (keys[event.key]) keys[event.key]();
    else if (folderMap.isOpen) { if (event.key !== "u") return; correcting.undo(); }
    else if (onBoard && event.key.startsWith("Arrow")) board.step(event.key, event.shiftKey);
    else if (onBoard && (event.key === "Enter" || event.key === " ") && board.selection.focus) viewer.open();
    else if (!correcting.pressed(event)) return;
    event.preventDefault();
  });
};
