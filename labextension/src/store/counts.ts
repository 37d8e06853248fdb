// How many jobs of the user have not ended.

import type { JobCounts } from "../api/types";
import { hasEnded } from "../rules/words";
import { asServiceError } from "../service/errors";
import type { IService } from "../service/port";
import type { EventStream, StreamListener, StreamStatus } from "../service/stream";
import { Later } from "./later";

/** One request at most in so long, however fast events come. */
const EVENTS_MS = 500;

export class LiveCount implements StreamListener {
  live = 0;
  private readonly loading = new Later();

  constructor(
    private readonly service: IService,
    private readonly stream: EventStream,
    private readonly onChange: () => void,
  ) {}

  get status(): StreamStatus {
    return this.stream.status;
  }

  start(): void {
    this.stream.add(this);
  }

  stop(): void {
    this.stream.remove(this);
    this.loading.forget();
  }

  onTransition(): void {
    this.soon();
  }

  onProgress(): void {
    // The job is counted already.
  }

  onGap(): void {
    this.soon();
  }

  onStatus(): void {
    this.onChange();
  }

  private soon(): void {
    this.loading.once(() => void this.load(), EVENTS_MS);
  }

  private async load(): Promise<void> {
    try {
      const { counts } = await this.service.get<JobCounts>("jobs/counts");
      const live = counts.filter(({ state }) => !hasEnded(state));
      this.live = live.reduce((sum, { count }) => sum + count, 0);
      this.onChange();
    } catch (error) {
      // The stream's status says why the service does not answer.
      asServiceError(error);
    }
  }
}
