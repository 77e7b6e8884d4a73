"""What all pages share, as text: their frame, how they look, and the script that sorts tables."""

# The policy keeps browsers from fetching anything, and from running anything but our own script,
# whatever names a dataset has.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'; script-src 'sha256-{{ script_hash }}'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --text: #1c2024; --muted: #60646c; --line: #d9dce1;
  --back: #ffffff; --soft: #f4f6f8; --chosen: #e6f1fa; --link: #0b62a5; }
@media screen and (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --muted: #a0a6ae;
  --line: #3a3f45; --back: #16181b; --soft: #1f2226; --chosen: #1d3345; --link: #7cbcf2; }
  figure img { filter: brightness(.88); } }
* { box-sizing: border-box; }
html { scroll-padding-top: 3.5rem; }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 1160px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .8rem; padding-bottom: .3rem;
  border-bottom: 2px solid var(--text); }
h3 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h4 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
a { color: var(--link); }
p, ul { max-width: 50rem; }
nav { position: sticky; top: 0; background: var(--back); border-bottom: 1px solid var(--line);
  padding: .6rem 0; z-index: 1; }
nav a { margin-right: 1.1rem; text-decoration: none; white-space: nowrap; }
nav a:hover { text-decoration: underline; }
table { border-collapse: collapse; font-size: 14px; }
caption { caption-side: top; text-align: left; color: var(--muted); padding: .2rem 0 .4rem; }
td, th { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline; }
thead th { vertical-align: bottom; background: var(--soft); }
tfoot td, tfoot th { font-weight: 600; border-top: 2px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:hover { text-decoration: underline; }
th button:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
th button::after { content: "\\2195"; color: var(--muted); opacity: .45; margin-left: .3em; }
th[aria-sort=ascending] button::after { content: "\\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\2193"; opacity: 1; }
.wide { overflow-x: auto; margin: .6rem 0 1rem; }
.tall { max-height: 32rem; overflow: auto; border: 1px solid var(--line); max-width: 100%;
  width: fit-content; }
.tall thead th { position: sticky; top: 0; }
figure { margin: .8rem 0 1.2rem; }
figure img { max-width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 6px;
  display: block; }
figcaption { color: var(--muted); font-size: 14px; margin-top: .3rem; }
.swatch { display: inline-block; width: .75em; height: .75em; margin-right: .4em;
  border-radius: 2px; }
.legend span + span { margin-left: 0; } .legend .name { margin-right: 1.1rem; }
.answers { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; padding: 0;
  list-style: none; max-width: none; }
.answers li { background: var(--soft); border: 1px solid var(--line); border-radius: 8px;
  padding: .7rem 1.1rem; min-width: 11rem; }
.answers b { display: block; font-size: 1.6rem; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.muted { color: var(--muted); }
.chosen { background: var(--chosen); }
.error, .warning { font-weight: 600; }
.plain th { font-weight: 600; white-space: nowrap; vertical-align: top; }
summary { cursor: pointer; padding: .2rem 0; }
summary code { margin: 0 .6rem; }
details > :not(summary) { margin-left: 1.2rem; }
pre, code { font-size: 13px; } pre { white-space: pre-wrap; }
code.hash { word-break: break-all; }
footer { margin-top: 3rem; color: var(--muted); border-top: 1px solid var(--line);
  padding-top: .8rem; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } nav { display: none; }
  .tall { max-height: none; overflow: visible; border: 0; } .wide { overflow: visible; }
  h2, h3, h4, p:has(+ figure), p:has(+ .wide) { break-after: avoid; }
  figure, tr, .answers li { break-inside: avoid; } footer { break-before: avoid; }
  h2 { margin-top: 2rem; } figcaption, pre, code { font-size: 10px; }
  .swatch, .chosen { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  th button::after { content: ""; } table { font-size: 10px; } td, th { padding: .15rem .4rem; } }
</style>
</head>
<body>
<header><h1>{{ title }}</h1></header>
<nav aria-label="Contents">
{% for section in sections %}<a href="#{{ section.name }}">{{ section.title }}</a>
{% endfor %}
</nav>
<main>
{% for section in sections %}
<section aria-labelledby="{{ section.name }}">
<h2 id="{{ section.name }}">{{ section.title }}</h2>
{{ section.html }}
</section>
{% endfor %}
</main>
<footer>Made by autoseg {{ version }}. Research software, not a medical device.</footer>
<script>{{ script|safe }}</script>
</body>
</html>
"""

PARTS = """
{% macro figure(png, alt, caption="", density=1.32) %}
<figure><img alt="{{ alt }}" width="{{ png|shown_px(density) }}"
 src="data:image/png;base64,{{ png|png }}">
{% if caption %}<figcaption>{{ caption }}</figcaption>{% endif %}</figure>
{% endmacro %}

{% macro swatch(colour) %}<span class="swatch" style="background: {{ colour }}"></span>
{%- endmacro %}

{% macro legend(entries) %}
<p class="legend">{% for colour, name in entries %}
{{ swatch(colour) }}<span class="name">{{ name }}</span>{% endfor %}</p>
{% endmacro %}

{% macro cell(tag, content, scope="") %}
<{{ tag }}{{ scope }}{% if content.number %} class="number"{% endif %}
{%- if content.value is not none %} data-value="{{ content.value }}"{% endif %}>
{%- if content.colour %}{{ swatch(content.colour) }}{% endif %}{{ content.text }}</{{ tag }}>
{% endmacro %}

{% macro table(content) %}
<div class="{{ 'wide tall' if content.is_long else 'wide' }}">
<table{% if content.sorts %} class="sortable"{% endif %}>
{% if content.caption %}<caption>{{ content.caption }}</caption>{% endif %}
<thead>{% if content.groups %}<tr class="groups">{% for name, span in content.groups %}
<th{% if name %} scope="colgroup"{% endif %} colspan="{{ span }}">{{ name }}</th>{% endfor %}</tr>
{% endif %}<tr>{% for column in content.heads %}{{ cell("th", column, ' scope="col"'|safe) }}
{%- endfor %}</tr></thead>
<tbody>{% for row in content.body %}<tr>{% for item in row %}{{ cell("td", item) }}
{%- endfor %}</tr>{% endfor %}</tbody>
{% if content.foot %}<tfoot>{% for row in content.foot %}<tr>{% for item in row %}
{{- cell("td", item) }}{% endfor %}</tr>{% endfor %}</tfoot>{% endif %}
</table></div>
{% endmacro %}
"""

# Buttons are added here, so that without scripts there is none that does nothing. The value of a
# cell is its data-value where it has one, which is empty where it is missing: then it goes last.
SCRIPT = """
"use strict";
const valueOf = cell => cell.dataset.value ?? cell.textContent.trim();
function compare(first, second, sign) {
  const a = valueOf(first), b = valueOf(second);
  if (a === "" || b === "") return (a === "") - (b === "");
  const numbers = !isNaN(a) && !isNaN(b);
  return sign * (numbers ? a - b : a.localeCompare(b, undefined, {numeric: true}));
}
function sortBy(head, column) {
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const body = head.closest("table").tBodies[0];
  body.append(...[...body.rows].sort((a, b) =>
    compare(a.cells[column], b.cells[column], sign)));
}
for (const row of document.querySelectorAll("table.sortable thead tr:last-child"))
  [...row.cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortBy(head, column));
  });
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
"""
