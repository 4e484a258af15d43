// The language of the page: the browser's, or the one chosen here; every text carries its key, so it can be switched.

import en from "./lang/en.js";
import fr from "./lang/fr.js";

const TABLES = { en, fr };
const STORE = "relais.language";

let language = initialLanguage();

export const LANGUAGES = Object.keys(TABLES);

/** Adds the texts of one page, `{ en: {…}, fr: {…} }`: what only one page says, only that page loads. */
export function addTexts(tables) {
  for (const [name, table] of Object.entries(tables)) Object.assign(TABLES[name], table);
}

/** The language in use: `en` or `fr`. */
export function currentLanguage() {
  return language;
}

function initialLanguage() {
  const chosen = localStorage.getItem(STORE);
  if (chosen in TABLES) return chosen;
  const wanted = (navigator.languages ?? []).map((tag) => tag.slice(0, 2).toLowerCase());
  return wanted.find((tag) => tag in TABLES) ?? "en";
}

/** The text of `key`, with `{name}` replaced from `values`. */
export function text(key, values = {}) {
  const template = TABLES[language][key] ?? en[key] ?? key;
  return template.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Writes the text of `key` into `element`, and again whenever the language changes. */
export function say(element, key, values = {}) {
  element.dataset.text = key;
  element.dataset.values = JSON.stringify(values);
  const wanted = text(key, values);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** The same for the accessible name and the tooltip of a control. */
export function label(element, key, values = {}) {
  element.dataset.label = key;
  element.dataset.labelValues = JSON.stringify(values);
  element.setAttribute("aria-label", text(key, values));
  element.title = text(key, values);
}

/** Fills every element that carries `data-text`, `data-label`, `data-placeholder` or `data-alt`. */
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-text]")) {
    say(element, element.dataset.text, JSON.parse(element.dataset.values ?? "{}"));
  }
  for (const element of root.querySelectorAll("[data-label]")) {
    label(element, element.dataset.label, JSON.parse(element.dataset.labelValues ?? "{}"));
  }
  for (const element of root.querySelectorAll("[data-placeholder]")) element.placeholder = text(element.dataset.placeholder);
  for (const element of root.querySelectorAll("[data-alt]")) element.alt = text(element.dataset.alt);
}

/** Makes the language buttons of the page work. */
export function setUpLanguages(changed = () => {}) {
  const buttons = document.querySelectorAll("[data-language]");
  const mark = () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.language === language));
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      language = button.dataset.language;
      localStorage.setItem(STORE, language);
      translate();
      mark();
      changed();
    });
  }
  translate();
  mark();
}
