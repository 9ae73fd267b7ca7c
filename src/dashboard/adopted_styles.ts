/**
 * Style elements that a library makes at run time, as adopted style sheets: the page's policy
 * allows no inline styles, and needs no exception for it this way.
 */

/** While `make` runs, style elements that it creates become adopted style sheets. */
export function withAdoptedStyles<T>(make: () => T): T {
  const original = document.createElement;
  document.createElement = ((name: string, options?: ElementCreationOptions) =>
    name.toLowerCase() === "style"
      ? adoptedStyle(original.call(document, "template"))
      : original.call(document, name, options)) as typeof document.createElement;
  try {
    return make();
  } finally {
    document.createElement = original;
  }
}

/** Looks like a style element to who writes to it; ends when it is removed. */
function adoptedStyle(element: HTMLElement): HTMLElement {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, "textContent", {
    set: (text: string) => sheet.replaceSync(text),
    get: () => "",
  });
  const remove = element.remove.bind(element);
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
    remove();
  };
  return element;
}
