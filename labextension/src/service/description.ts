// What a service says of itself in openapi.json, by which a page tells what an older one lacks.

import { ServiceError } from "./errors";

interface Document {
  paths?: Record<string, Record<string, { parameters?: { name?: string }[] } | undefined> | undefined>;
}

export class Description {
  private document: Promise<Document> | null = null;

  constructor(private readonly load: () => Promise<Document>) {}

  /** Rejects with ServiceError where the service does not answer now. */
  async knows(method: string, path: string, parameter?: string): Promise<boolean> {
    const { paths } = await this.read();
    const route = paths?.[path]?.[method.toLowerCase()];
    if (!route) return false;
    return parameter === undefined || (route.parameters ?? []).some(({ name }) => name === parameter);
  }

  private read(): Promise<Document> {
    this.document ??= this.load().catch((error: unknown) => {
      this.document = null;
      // A service without a description is older than all that is asked of it here.
      if (error instanceof ServiceError && !error.isOffline && !error.isSignedOut) return {};
      throw error;
    });
    return this.document;
  }
}
