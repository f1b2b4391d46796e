// How figures are said. Offsets and counts come as text, and stay exact: they are never made numbers to be shown whole.

export const UNKNOWN = "?";

// The glyph says it where colours do not.
export const CLASSES = {
  OK: { glyph: "·", tone: "well", words: "well" },
  DRAINING: { glyph: "↓", tone: "well", words: "catching up" },
  PAUSED: { glyph: "¦", tone: "held", words: "paused by a person" },
  WARN: { glyph: "▲", tone: "warn", words: "falls behind" },
  ERR: { glyph: "!", tone: "bad", words: "not well" },
  STOP: { glyph: "×", tone: "bad", words: "nobody samples it any more" },
  STALL: { glyph: "■", tone: "bad", words: "does not move" },
  REWIND: { glyph: "↶", tone: "bad", words: "has gone back" },
  FENCED: { glyph: "#", tone: "warn", words: "taken by another process" },
  HALTED: { glyph: "‖", tone: "bad", words: "halted" },
  UNOWNED: { glyph: "○", tone: "bad", words: "held by nobody" },
  DEAD: { glyph: "†", tone: "bad", words: "held by a process that is gone" },
};

export const classOf = (name) => CLASSES[name] || { glyph: "?", tone: "warn", words: name };

// 1234567 as 1 234 567, however long it is.
export function whole(text) {
  if (text === null || text === undefined) return UNKNOWN;
  return String(text).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

// At most four characters.
export function short(text) {
  if (text === null || text === undefined) return UNKNOWN;
  const number = Number(text);
  if (number < 1000) return String(number);
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) {
      const value = number / size;
      return (value < 9.95 ? value.toFixed(1).replace(/\.0$/, "") : Math.floor(value)) + unit;
    }
  }
}

export function shortSpan(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds === "never") return "∞";
  if (seconds < 0.05) return "0";
  if (seconds < 9.95) return seconds.toFixed(1).replace(/\.0$/, "") + "s";
  if (seconds < 99.5) return Math.round(seconds) + "s";
  if (seconds < 5970) return Math.round(seconds / 60) + "m";
  if (seconds < 172800) return Math.round(seconds / 3600) + "h";
  return Math.round(seconds / 86400) + "d";
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "unknown";
  if (seconds === "never") return "never";
  if (seconds < 0.05) return "0 s";
  if (seconds < 10) return seconds.toFixed(1) + " s";
  if (seconds < 90) return Math.round(seconds) + " s";
  if (seconds < 5400) return Math.floor(seconds / 60) + " min " + String(Math.round(seconds % 60) % 60).padStart(2, "0") + " s";
  if (seconds < 172800) return Math.floor(seconds / 3600) + " h " + Math.round((seconds % 3600) / 60) % 60 + " min";
  return Math.round(seconds / 86400) + " days";
}

export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return UNKNOWN;
  if (perSecond < 10) return perSecond.toFixed(1).replace(/\.0$/, "") + "/s";
  return short(Math.round(perSecond)) + "/s";
}

const two = (number) => String(number).padStart(2, "0");

export function clock(ms) {
  if (ms === null || ms === undefined) return "never";
  const at = new Date(ms);
  return two(at.getHours()) + ":" + two(at.getMinutes()) + ":" + two(at.getSeconds());
}

export function dayAndClock(ms) {
  if (ms === null || ms === undefined) return "–";
  const at = new Date(ms);
  const day = at.getFullYear() + "-" + two(at.getMonth() + 1) + "-" + two(at.getDate());
  return (new Date().toDateString() === at.toDateString() ? "" : day + " ") + clock(ms);
}

export const ago = (ms, now) => (ms === null || ms === undefined ? "–" : span(Math.max(0, (now - ms) / 1000)) + " ago");

// Which of six colours, by thresholds that mean something to a person.
const STEPS = { records: [1e3, 1e4, 5e4, 1e5, 1e6], seconds: [10, 60, 300, 900, 3600] };
export function heat(value, unit) {
  if (value === null || value === undefined) return "unknown";
  const number = Number(value);
  return STEPS[unit].filter((step) => number >= step).length;
}

export const many = (count, noun) => count + " " + noun + (count === 1 ? "" : "s");
