// Makes elements. All text is inserted as text, never as HTML.

export function el(tag, { on = {}, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "className" || name === "open" || name === "value") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, handler] of Object.entries(on)) element.addEventListener(event, handler);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
