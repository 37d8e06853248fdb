import type { ReactNode } from "react";

import { sentence } from "../rules/words";
import type { ServiceError } from "../service/errors";
import { SignIn } from "./SignIn";
import { useTranslator } from "./context";

interface Props {
  error: ServiceError;
  /** Said where the service does not know what was asked for, or does not tell this user of it. */
  unknown?: string;
}

/** Why nothing can be shown. */
export function WhyMissing({ error, unknown }: Props): ReactNode {
  const tr = useTranslator();
  if (error.isSignedOut) return <SignedOut />;
  // CTS itself gives each of its errors a code.
  if (error.status === 404 && error.appcode === undefined) return tr.__("This Jupyter server has no CTS.");
  if (error.isUnknown && unknown !== undefined) return unknown;
  return sentence(error.message);
}

export function SignedOut(): ReactNode {
  const tr = useTranslator();
  return (
    <>
      {tr.__("You are signed out of Jupyter.")} <SignIn />
    </>
  );
}
