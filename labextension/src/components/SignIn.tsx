import type { ReactNode } from "react";

import { useTranslator } from "./context";

/** Signs in where one is signed out of Jupyter: in another tab, so that this page keeps what is in it. */
export function SignIn(): ReactNode {
  const tr = useTranslator();
  return (
    // Jupyter asks who does not know yet to sign in, whatever page of it is wanted.
    <a className="cts-sign-in" href={location.href} target="_blank" rel="noopener">
      {tr.__("Sign in again")}
    </a>
  );
}
