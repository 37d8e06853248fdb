"""What keeps people from using a part of a page: without a mouse, in a narrow place, or where axe finds it."""

from __future__ import annotations

from playwright.sync_api import Locator

NARROW = 320
"""Pixels of CSS: what WCAG 2.2 has a page fit into."""
SCROLLED = ".cts-log, .cts-preview"
"""Parts whose lines are as long as a program writes them, and which may be scrolled sideways."""

TOO_WIDE = """(root, scrolled) => {
    const name = e => `${e.localName}.${e.className} “${(e.textContent ?? "").slice(0, 60)}”`;
    const { right, left } = root.getBoundingClientRect();
    const wide = [];
    for (const each of [root, ...root.querySelectorAll("*")]) {
        if (each.closest(scrolled) || each.closest("svg, .cts-unseen") || each.localName === "option") continue;
        const box = each.getBoundingClientRect();
        if (!box.width || !box.height) continue;
        const isCut = getComputedStyle(each).overflowX !== "visible" && each.scrollWidth > each.clientWidth + 1
            && getComputedStyle(each).textOverflow !== "ellipsis" && !/^(input|select|textarea)$/.test(each.localName);
        if (box.right > right + 1 || box.left < left - 1 || isCut) wide.push(name(each));
    }
    return wide;
}"""

BEGIN = """root => {
    for (const place of ["beforebegin", "afterend"]) {
        root.insertAdjacentHTML(place, `<button class="tests-${place}">${place}</button>`);
    }
    const controls = "a[href], button, input, select, textarea, summary, [tabindex]";
    const isShown = e => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length > 0;
    window.unreached = new Map();
    for (const each of root.querySelectorAll(controls)) {
        // Where code alone puts the focus is no control.
        if (each.matches("[tabindex='-1']:not(a, button, input, select, textarea, [role])")) continue;
        if (each.matches(":disabled") || !isShown(each) || each.closest("fieldset:disabled")) continue;
        // Of a group, one takes the focus, and arrows go to the others.
        if (each.tabIndex < 0 && each.closest("[role=menu], [role=listbox], [role=tree], [role=list]")) continue;
        if (each.type === "radio" && !each.checked && root.querySelector(`[name="${each.name}"]:checked`)) continue;
        window.unreached.set(each, true);
    }
    root.previousElementSibling.focus();
    return window.unreached.size;
}"""
STEP = """root => {
    const now = document.activeElement;
    if (now === root.nextElementSibling) return "end";
    if (now === root.previousElementSibling) return "begin";
    if (!root.contains(now)) return `outside: ${now.outerHTML.slice(0, 200)}`;
    window.unreached.delete(now);
    const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(now);
    const { width, height } = now.getBoundingClientRect();
    const isSeen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 1 && !/, 0\\)$/.test(outlineColor)
        && width > 0 && height > 0;
    return isSeen ? "" : `focus is not seen: ${now.outerHTML.slice(0, 200)}`;
}"""
END = """root => {
    root.previousElementSibling.remove();
    root.nextElementSibling.remove();
    return [...window.unreached.keys()].map(e => `not reached: ${e.outerHTML.slice(0, 200)}`);
}"""
MAX_STEPS = 3
"""Presses of Tab for each control: a field for a day takes three."""


def find_wide(root: Locator) -> list[str]:
    """Return what does not fit where there are 320 pixels, which is how wide it is from then on."""
    root.evaluate("(e, width) => { e.style.width = e.style.maxWidth = `${width}px`; }", NARROW)
    root.page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    wide: list[str] = root.evaluate(TOO_WIDE, SCROLLED)
    return wide


def find_unreached(root: Locator) -> list[str]:
    """Walk through a part by Tab; return what is not reached, where the focus is not seen, and what does not let it go."""
    page = root.page
    found: dict[str, None] = {}
    count = root.evaluate(BEGIN)
    for _ in range(MAX_STEPS * count + 2):
        page.keyboard.press("Tab")
        said = root.evaluate(STEP)
        if said == "end":
            break
        if said:
            found[said] = None
    else:
        found["Tab does not come to its end"] = None
    page.keyboard.press("Shift+Tab")
    if (said := root.evaluate(STEP)) and count:
        found[f"Shift+Tab does not come back: {said}"] = None
    return [*found, *root.evaluate(END)]
