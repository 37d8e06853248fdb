// Notebooks of before the JupyterLab extension import this, to mount a live card over the snapshot that they saved.

const NOTE = "Saved by an earlier version of CTS. This is what was saved; run the cell again for a live card.";

export function mount(root) {
  if (root.querySelector(".cts-note")) return;
  const note = document.createElement("p");
  note.className = "cts-note";
  note.append(NOTE);
  root.append(note);
}
