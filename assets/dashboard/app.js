// The page: the frame around the views, and how fresh what they show is.

import { html, render, useEffect } from "/assets/preact-htm.js";
import { ago, clock, many } from "/assets/format.js";
import { EventAxis, EventList, Trajectory } from "/assets/charts.js";
import { Badge, HeatMap } from "/assets/grid.js";
import { href, useLive, useNow, usePlace } from "/assets/live.js";
import { Fleet, NextSteps, UnitSwitch, Verdict, Workers } from "/assets/panels.js";
import { GroupLetters } from "/assets/letters.js";
import { Partition } from "/assets/partition.js";

function App() {
  const place = usePlace();
  const live = useLive(place.group);
  const now = useNow();
  const { data } = live;
  useEffect(() => {
    const what = place.view === "fleet" ? "groups" : place.view === "group" ? place.group : place.topic + ":" + place.partition;
    document.title = what + " – Highwater";
  }, [place]);
  return html`
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <${Head} live=${live} place=${place} now=${now} />
    <main id="main" tabindex="-1">
      ${data && html`<${Warnings} fresh=${data.freshness} now=${now} received=${data.received} live=${live} />`}
      ${!data ? html`<h1>Highwater</h1><p>Reading the groups …</p>` : html`<${Views} live=${live} place=${place} />`}
    </main>
    <footer><span>Highwater ${data && data.freshness.version}</span> <span>read only</span> <a href="/metrics" target="_blank">/metrics</a></footer>`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function Head({ live, place, now }) {
  const fresh = live.data && live.data.freshness;
  const dead = !live.connected && !live.paused;
  return html`<header>
    <nav aria-label="Where"><a class="home" href="/"><img src="/assets/icon.svg" alt="" width="22" height="22" /> Highwater</a>
      ${fresh && fresh.database && html`<span class="database" title="the database">${fresh.database}</span>`}
      ${place.group !== undefined && html`<a class="crumb" href=${href({ group: place.group, unit: place.unit })}>${place.group}</a>`}</nav>
    <div class="freshness">
      ${fresh && html`<span class=${"as-of" + (dead || fresh.is_stale ? " tone-text-bad" : "")}>as of <time>${clock(fresh.read_at_ms)}</time>, ${ago(fresh.read_at_ms, fresh.now_ms + (now - live.data.received))}</span>`}
      <span class=${"light " + (live.paused ? "paused" : dead ? "dead" : "live")}>${live.paused ? "paused" : dead ? "no connection" : "live"}</span>
      <button type="button" id="pause" aria-pressed=${String(live.paused)} onClick=${() => live.setPaused(!live.paused)}>${live.paused ? "Resume" : "Pause"}</button>
    </div></header>`;
}

// Nothing that is old may look as if it were of now.
function Warnings({ fresh, live, now, received }) {
  const lines = [];
  if (live.paused) lines.push("Paused: this is how it was at " + clock(fresh.read_at_ms) + ".");
  else if (!live.connected) lines.push("The dashboard does not answer: this is how it was at " + clock(fresh.read_at_ms) + ".");
  else if (fresh.error) lines.push((fresh.is_stale ? "Not of now. " : "") + "The database could not be read: " + fresh.error);
  else if (now - received > 3 * fresh.interval_ms + 15000) lines.push("Nothing has come for " + ago(received, now).replace(" ago", "") + ".");
  if (fresh.truncated) lines.push("There is more than can be shown: some groups are missing.");
  if (fresh.unreadable.length) lines.push("This role lacks a right on " + fresh.unreadable.join(", ") + ": what would come from there is missing.");
  return lines.map((line) => html`<p class="banner" role="alert" key=${line}>${line}</p>`);
}

function Views({ live, place }) {
  const { data, kind } = live;
  if (place.view === "fleet") return html`<${Fleet} data=${data} place=${place} />`;
  if (place.view === "partition") return html`<${Partition} place=${place} turn=${data.received} />`;
  if (kind !== "group") return html`<h1>${place.group}</h1><p>There is no such group in this database. <a href="/">All groups</a></p>`;
  return html`<${Group} data=${data} place=${place} />`;
}

function Group({ data, place }) {
  const { group, history, freshness } = data;
  const panel = place.panel;
  const show = (name) => panel === "" || panel === name;
  const lit = (sentence) => "card panel" + (sentence ? " lit" : "");
  const found = group.diagnosis;
  const alone = panel !== "" && html`<p><a href=${href({ group: place.group, unit: place.unit })}>← all of ${place.group}</a></p>`;
  return html`${alone}
    <h1 class="group-title">${group.group} <${Badge} name=${group.class} /><span class="hint">${many(group.partitions.length, "partition")}, ${many(group.live_workers, "worker")}</span></h1>
    <${Verdict} group=${group} place=${place} />
    ${panel === "" && html`<${NextSteps} steps=${group.advice} />`}
    <div class="panels">
      ${show("heatmap") && html`<section id="heatmap" class=${lit(found.partition) + " wide"} aria-labelledby="heatmap-title">
        <div class="panel-head"><h2 id="heatmap-title"><span class="panel-number">1</span> Lag per partition</h2><${UnitSwitch} place=${place} /></div>
        <${HeatMap} group=${group.group} partitions=${group.partitions} unit=${place.unit} atMs=${freshness.at_ms} /></section>`}
      ${show("trajectory") && html`<section id="trajectory" class=${lit(found.throughput) + (panel ? " wide" : "")} aria-labelledby="trajectory-title">
        <div class="panel-head"><h2 id="trajectory-title"><span class="panel-number">2</span> The last 30 minutes</h2>${panel !== "" && html`<${UnitSwitch} place=${place} />`}</div>
        <${Trajectory} history=${history} events=${group.events} unit=${place.unit} endMs=${freshness.at_ms} /></section>`}
      ${show("workers") && html`<section id="workers" class=${lit(found.consumer) + (panel ? " wide" : "")} aria-labelledby="workers-title">
        <div class="panel-head"><h2 id="workers-title"><span class="panel-number">3</span> Time without a commit</h2></div>
        <${Workers} workers=${group.workers} nowMs=${freshness.at_ms} /></section>`}
      ${(panel === "letters" || (panel === "" && waiting(group))) && html`<section id="letters" class="card panel wide" aria-labelledby="letters-title">
        <div class="panel-head"><h2 id="letters-title"><a href=${href({ ...place, panel: "letters" })}>Dead letters</a></h2></div>
        <${GroupLetters} group=${group.group} turn=${data.received} nowMs=${freshness.at_ms} /></section>`}
      ${show("events") && html`<section id="events" class="card panel wide" aria-labelledby="events-title">
        <div class="panel-head"><h2 id="events-title"><a href=${href({ ...place, panel: "events" })}>Events</a></h2></div>
        ${panel !== "" && html`<${EventAxis} events=${group.events} endMs=${freshness.at_ms} />`}
        <${EventList} events=${group.events} /></section>`}
    </div>`;
}

// Whether dead letters wait for somebody.
const waiting = (group) => (group.dead_letters || []).some((letters) => letters.count !== "0");

render(html`<${App} />`, document.getElementById("app"));
