// What tests of components take from @testing-library/react, where they run by Preact.

import { createEvent, fireEvent as fire } from "@testing-library/preact";

export * from "@testing-library/preact";

/** A change is told by both events, as a browser does: Preact hears the first of a text, and the second of a choice. */
function change(...[element, init]: Parameters<typeof fire.change>): boolean {
  fire(element, createEvent.input(element, init));
  return fire(element, createEvent.change(element));
}

export const fireEvent = Object.assign(fire, { change });
