import { Component, type ReactNode } from "react";

import { TranslatorContext } from "./context";
import { forgetFailures } from "./lazy";

interface Props {
  children: ReactNode;
}
interface State {
  message: string | null;
}

/** Keeps a fault of what it holds from the rest of the page. */
export class ErrorBoundary extends Component<Props, State> {
  static override contextType = TranslatorContext;
  declare context: React.ContextType<typeof TranslatorContext>;
  override state: State = { message: null };

  static getDerivedStateFromError(error: unknown): State {
    return { message: error instanceof Error ? error.message : "" };
  }

  override render(): ReactNode {
    const { message } = this.state;
    if (message === null) return this.props.children;
    return (
      <p className="cts-note" role="alert">
        {this.context.__("This view broke: %1.", message)}{" "}
        <button
          type="button"
          onClick={() => {
            forgetFailures();
            this.setState({ message: null });
          }}
        >
          {this.context.__("Show again")}
        </button>
      </p>
    );
  }
}
