// How JupyterLab asks a person, and tells them.

import { Dialog, InputDialog, Notification, showDialog } from "@jupyterlab/apputils";

import { copyText } from "../components/clipboard";
import type { Dialogs } from "./actions";

const SHOWN_MS = 5_000;

export const dialogs: Dialogs = {
  async choose(title, label, items, current = 0) {
    const { value, button } = await InputDialog.getItem({ title, label, items: [...items], current });
    const place = button.accept && value !== null ? items.indexOf(value) : -1;
    return place < 0 ? null : place;
  },
  async confirm({ title, text, yes, no }) {
    const { button } = await showDialog({
      title,
      body: text,
      buttons: [Dialog.cancelButton({ label: no }), Dialog.warnButton({ label: yes })],
      defaultButton: 0,
    });
    return button.accept;
  },
  tell(text, isFailure) {
    Notification.emit(text, isFailure ? "error" : "success", { autoClose: SHOWN_MS });
  },
  copy: copyText,
};
