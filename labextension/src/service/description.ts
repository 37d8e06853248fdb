// What a service says of itself in openapi.json, by which a page tells what an older one lacks.

import { ServiceError } from "./errors";
import { once } from "./once";

interface Document {
  paths?: Record<string, Record<string, { parameters?: { name?: string }[] } | undefined> | undefined>;
}

export class Description {
  private readonly load: () => Promise<Document>;

  constructor(load: () => Promise<Document>) {
    this.load = once(load);
  }

  /** Rejects with ServiceError where the service does not answer now. */
  async knows(method: string, path: string, parameter?: string): Promise<boolean> {
    const { paths } = await this.read();
    const route = paths?.[path]?.[method.toLowerCase()];
    if (!route) return false;
    return parameter === undefined || (route.parameters ?? []).some(({ name }) => name === parameter);
  }

  private async read(): Promise<Document> {
    try {
      return await this.load();
    } catch (error) {
      // A service without a description is older than all that is asked of it here.
      if (error instanceof ServiceError && !error.isOffline && !error.isSignedOut) return {};
      throw error;
    }
  }
}
