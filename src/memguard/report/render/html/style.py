"""The style of an HTML report, and the Content Security Policy that allows only this style."""

from __future__ import annotations

import base64
import functools
import hashlib

from memguard.report.render.html.components import document
from memguard.report.render.html.markup import Markup, element

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --ink: #14181d; --soft: #57606b; --line: #dde1e6;
  --code: #f3f5f8; --curve: #2463c4; --fill: #2463c41f; --trend: #b8500c; --limit: #b3261e;
  --bad: #b3261e; --bad-tint: #fcebea; --warn: #7a5200; --warn-tint: #fdf3dc;
  --calm: #1d5fa8; --calm-tint: #e8f1fb; --good: #1c6b3a; --good-tint: #e6f4ea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1114; --card: #171b20; --ink: #e7eaed; --soft: #9ba5b0; --line: #2b3138;
    --code: #1f242b; --curve: #74b0ff; --fill: #74b0ff24; --trend: #ffa061; --limit: #ff8b82;
    --bad: #ff9d95; --bad-tint: #3a1c1b; --warn: #f2c260; --warn-tint: #352a12;
    --calm: #8ec0ff; --calm-tint: #17283c; --good: #82d49f; --good-tint: #15301f;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; padding: 2rem 1.25rem 3rem; background: var(--page); color: var(--ink);
  overflow-wrap: anywhere;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", Arial, sans-serif;
}
main { max-width: 58rem; margin: 0 auto; }
article + article { margin-top: 4rem; padding-top: 3rem; border-top: 2px solid var(--line); }
h1, h2, h3, p, ul, ol, dl, dd, figure, pre { margin: 0; padding: 0; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.015em; font-weight: 650; }
h2 { font-size: 1.06rem; margin: 2.4rem 0 0.75rem; font-weight: 650; }
h2 small { font-weight: 400; font-size: 0.86rem; color: var(--soft); margin-left: 0.4rem; }
code, pre, .place { font-family: ui-monospace, "SF Mono", "DejaVu Sans Mono", Consolas, monospace; }
code, .place { font-size: 0.9em; }
bdi, code { unicode-bidi: isolate; }
.soft { color: var(--soft); }
.small { font-size: 0.88rem; }
.number { font-variant-numeric: tabular-nums; }
.kicker { margin-bottom: 0.7rem; font-size: 0.88rem; color: var(--soft); }
.lede { margin-top: 0.5rem; font-size: 1.08rem; color: var(--soft); }
.badge {
  display: inline-block; margin-right: 0.5rem; padding: 0.1rem 0.6rem; border-radius: 99px;
  font-weight: 650; font-size: 0.82rem; background: var(--calm-tint); color: var(--calm);
}
.badge.leak, .badge.worse, .badge.new { background: var(--bad-tint); color: var(--bad); }
.badge.growth { background: var(--warn-tint); color: var(--warn); }
.badge.better, .badge.gone { background: var(--good-tint); color: var(--good); }
.badge.same, .badge.unknown { background: var(--code); color: var(--soft); }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1rem 1.15rem; break-inside: avoid;
}
.card + .card { margin-top: 0.75rem; }
.facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(9.5rem, 100%), 1fr)); gap: 1px;
  margin-top: 1.5rem; padding: 0; background: var(--line); overflow: hidden;
}
.facts div { padding: 0.85rem 1.1rem; background: var(--card); }
.facts dt { font-size: 0.82rem; color: var(--soft); }
.facts dd { font-size: 1.3rem; font-weight: 650; line-height: 1.3; }
.facts dd small { display: block; font-size: 0.82rem; font-weight: 400; color: var(--soft);
  line-height: 1.4; margin-top: 0.15rem; }
figure { margin-top: 0.75rem; }
.chart { display: block; overflow: visible; }
.chart text { font-size: 12px; fill: var(--soft); font-family: inherit; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart path { fill: none; stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round; }
.chart .area { fill: var(--fill); stroke: none; }
.chart .curve, .key.curve { stroke: var(--curve); }
.chart .old, .key.old { stroke: var(--soft); stroke-width: 1.75; }
.chart .trend, .key.trend { stroke: var(--trend); stroke-dasharray: 7 5; stroke-width: 2; }
.chart .limit, .key.limit { stroke: var(--limit); stroke-width: 1.75; stroke-dasharray: 2 4; }
.chart .limit-text { fill: var(--limit); }
figcaption { margin-top: 0.6rem; font-size: 0.88rem; color: var(--soft); }
figcaption span { display: inline-block; margin-right: 1.3rem; }
.key { width: 24px; height: 8px; margin-right: 0.45rem; stroke-width: 2.25;
  vertical-align: middle; }
.advice { border-left: 4px solid var(--calm); }
.advice p { font-size: 1.04rem; }
ul.plain { list-style: none; }
.points { padding-left: 1.15rem; color: var(--soft); }
.points li { margin-top: 0.3rem; }
.advice .points { margin-top: 0.6rem; }
.tree ul { list-style: none; }
.tree ul ul { margin-left: 0.55rem; padding-left: 1.1rem; border-left: 1.5px solid var(--line); }
.tree li { padding-top: 0.8rem; }
.tree > ul > li:first-child { padding-top: 0; }
.stem { color: var(--soft); }
.holder .name { font-weight: 600; font-size: 1.02rem; }
.above { font-weight: 400; color: var(--soft); }
.type { margin-left: 0.5rem; padding: 0.05rem 0.45rem; border-radius: 5px; background: var(--code);
  font-size: 0.84rem; color: var(--soft); }
.bar { display: block; margin: 0.45rem 0; border-radius: 3px; overflow: hidden; }
.bar .track { fill: var(--code); }
.bar .fill { fill: var(--curve); }
.bar .fill.old { fill: var(--soft); }
.bar.pair { margin: 0.15rem 0; }
.size { font-weight: 650; }
.source {
  margin-top: 0.5rem; padding: 0.5rem 0.75rem; border-radius: 7px; background: var(--code);
  font-size: 0.86rem; white-space: pre-wrap;
}
.source + p { margin-top: 0.45rem; }
.source .line { color: var(--soft); user-select: none; margin-right: 1rem; }
.head { display: flex; flex-wrap: wrap; gap: 0.15rem 1rem; justify-content: space-between;
  align-items: baseline; }
.head .place { font-weight: 600; }
details { margin-top: 0.6rem; }
summary { cursor: pointer; font-size: 0.88rem; color: var(--soft); }
summary:focus-visible { outline: 2px solid var(--curve); outline-offset: 3px; border-radius: 3px; }
.stack { list-style: none; margin-top: 0.4rem; font-size: 0.9rem; }
.stack li { padding: 0.16rem 0 0.16rem 0.75rem; border-left: 3px solid var(--line);
  color: var(--soft); }
.stack li.user { border-left-color: var(--trend); color: var(--ink); font-weight: 600; }
.yours { margin-left: 0.5rem; font-size: 0.76rem; font-weight: 600; color: var(--trend); }
.wide { overflow-x: auto; padding: 0.4rem 1.15rem; }
table { width: 100%; border-collapse: collapse; font-size: 0.93rem; }
th { font-size: 0.82rem; font-weight: 500; color: var(--soft); text-align: left; }
th, td { padding: 0.42rem 0.9rem 0.42rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
td.number, th.number { text-align: right; white-space: nowrap; overflow-wrap: normal; }
.cost { display: flex; flex-wrap: wrap; gap: 0.3rem 1.8rem; font-size: 0.92rem; }
.cost dt { display: inline; color: var(--soft); }
.cost dd { display: inline; margin-left: 0.35rem; font-variant-numeric: tabular-nums; }
footer { margin-top: 2.2rem; padding-top: 0.9rem; border-top: 1px solid var(--line);
  font-size: 0.84rem; color: var(--soft); }
.sides { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.75rem;
  margin-top: 1.5rem; }
.sides .card + .card { margin-top: 0; }
.changes li + li { margin-top: 0.9rem; padding-top: 0.8rem; border-top: 1px solid var(--line); }
.changes li { break-inside: avoid; }
.changes .badge { min-width: 4.6rem; margin: 0; text-align: center; }
.changes .numbers { margin-top: 0.3rem; }
@media (max-width: 34rem) {
  body { padding: 1.25rem 0.9rem 2rem; }
  h1 { font-size: 1.5rem; }
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .facts div { padding: 0.7rem 0.85rem; }
  .facts dd { font-size: 1.12rem; }
  .card { padding: 0.85rem 0.9rem; }
  .facts.card { padding: 0; }
  .wide { padding: 0.3rem 0.9rem; }
  .tree ul ul { margin-left: 0.2rem; padding-left: 0.7rem; }
  .sides { grid-template-columns: 1fr; }
}
@media print {
  :root {
    color-scheme: light;
    --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --code: #f2f2f2;
    --curve: #1c4f9c; --fill: #1c4f9c22; --trend: #9c4409; --limit: #9c211a;
    --bad: #9c211a; --warn: #664500; --calm: #174d88; --good: #175a31;
    --bad-tint: #fff; --warn-tint: #fff; --calm-tint: #fff; --good-tint: #fff;
  }
  @page { margin: 16mm 14mm; }
  body { padding: 0; font-size: 10pt; }
  main { max-width: none; }
  .badge { border: 1px solid currentcolor; }
  h2 { break-after: avoid; margin-top: 1.4rem; }
  article + article { break-before: page; border: 0; margin: 0; padding: 0; }
  .wide { overflow: visible; }
  details::details-content { content-visibility: visible; height: auto; }
  summary { list-style: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def report_document(title: str, body: Markup) -> str:
    """Return a whole document with the look and the policy of a report."""
    policy = {"Content-Security-Policy": content_policy(), "referrer": "no-referrer"}
    main = element("main", body)
    return document(f"{title} \u2013 memguard", main, style=STYLE, meta=policy)


@functools.cache
def content_policy() -> str:
    """
    Return the Content Security Policy of a report: this style, and nothing else at all.

    No script, no image, no font, no frame, no form, no connection; the style is named by its hash
    (CSP Level 3, w3.org/TR/CSP3), so that not even another style could be brought in.
    """
    return (
        f"default-src 'none'; style-src 'sha256-{digest(STYLE)}'; base-uri 'none'; "
        "form-action 'none'"
    )


def digest(text: str) -> str:
    """Return the SHA-256 by which a policy names a style or a script."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
