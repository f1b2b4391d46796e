// What the server says, as it changes: one stream for what is shown, which may be paused. And where we are: the URL.

import { useEffect, useRef, useState } from "/assets/preact-htm.js";

// Each view has its own address.
//   /                               all groups
//   /g/GROUP[/heatmap|/trajectory|/workers|/letters|/events]
//   /g/GROUP/p/TOPIC/PARTITION
export function parse(location) {
  const query = new URLSearchParams(location.search);
  const unit = query.get("unit") === "seconds" ? "seconds" : "records";
  const parts = location.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  if (parts[0] !== "g" || !parts[1]) return { view: "fleet", unit, only: query.get("only") || "" };
  const group = parts[1];
  if (parts[2] === "p" && parts.length >= 5) {
    return { view: "partition", group, topic: parts[3], partition: Number(parts[4]), unit };
  }
  return { view: "group", group, panel: parts[2] || "", unit };
}

export function href(place) {
  const query = new URLSearchParams();
  if (place.unit === "seconds") query.set("unit", "seconds");
  if (place.only) query.set("only", place.only);
  const path = ["", ...(place.group === undefined ? [] : ["g", place.group])];
  if (place.topic !== undefined) path.push("p", place.topic, String(place.partition));
  else if (place.panel) path.push(place.panel);
  const text = path.map(encodeURIComponent).join("/") || "/";
  return text + (query.size ? "?" + query : "");
}

export function usePlace() {
  const [place, setPlace] = useState(() => parse(window.location));
  useEffect(() => {
    const moved = () => setPlace(parse(window.location));
    const clicked = (event) => {
      const link = event.target.closest && event.target.closest("a[href]");
      const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
      if (!link || !plain || link.target || link.origin !== window.location.origin) return;
      if (link.pathname !== "/" && !link.pathname.startsWith("/g/")) return;
      event.preventDefault();
      go(link.pathname + link.search);
    };
    window.addEventListener("popstate", moved);
    window.addEventListener("click", clicked);
    return () => {
      window.removeEventListener("popstate", moved);
      window.removeEventListener("click", clicked);
    };
  }, []);
  return place;
}

export function go(url, replace) {
  if (url === window.location.pathname + window.location.search) return;
  window.history[replace ? "replaceState" : "pushState"](null, "", url);
  window.dispatchEvent(new PopStateEvent("popstate"));
}

// After this a stream is opened again that the browser has given up.
const REOPEN_MS = 5000;

// { data, connected, paused, setPaused }. `data.freshness` is there in either kind.
export function useLive(group) {
  const [state, setState] = useState({ data: null, kind: null, of: null, connected: false });
  const [paused, setPaused] = useState(false);
  useEffect(() => {
    if (paused) return undefined;
    const url = "/api/live" + (group === undefined ? "" : "?group=" + encodeURIComponent(group));
    let source;
    let again;
    const take = (kind) => (event) => {
      const data = JSON.parse(event.data);
      data.received = Date.now();
      setState({ data, kind, of: group, connected: true });
    };
    const open = () => {
      source = new EventSource(url);
      source.addEventListener("fleet", take("fleet"));
      source.addEventListener("group", take("group"));
      source.onerror = () => {
        setState((before) => ({ ...before, connected: false }));
        // A connection that was lost it opens by itself; not one that was answered by something else than a stream, as by
        // a proxy while this server is started anew.
        if (source.readyState === EventSource.CLOSED) again = setTimeout(open, REOPEN_MS);
      };
    };
    open();
    return () => {
      clearTimeout(again);
      source.close();
    };
  }, [group, paused]);
  // What was of another group is not shown for a moment as if it were of this one.
  const data = state.of === group ? state.data : null;
  return { data, kind: state.kind, connected: state.connected, paused, setPaused };
}

// The time, every second.
export function useNow() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

// Asks once, and again when `again` changes.
export function useAnswer(url, again) {
  const [answer, setAnswer] = useState({ url: null });
  const latest = useRef(0);
  useEffect(() => {
    const turn = ++latest.current;
    fetch(url)
      .then(async (response) => {
        const data = await response.json();
        if (turn === latest.current) setAnswer(response.ok ? { url, data } : { url, error: data.error });
      })
      .catch((error) => turn === latest.current && setAnswer((before) => ({ ...before, error: String(error) })));
  }, [url, again]);
  return answer.url === url ? answer : {};
}
