// Times as people read and hear them. Pure; all in seconds.

/** `0:07`, `12:03`, `1:00:00`: whole seconds, rounded down as a clock does. */
export function clock(seconds) {
  const [hours, minutes, rest] = parts(seconds);
  const padded = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${padded(minutes)}:${padded(rest)}` : `${minutes}:${padded(rest)}`;
}

/** `1 hour 2 minutes 3 seconds`: screen readers would read 1:02:03 as a time of day. */
export function spoken(seconds) {
  const units = ["hour", "minute", "second"];
  const named = parts(seconds).map((number, at) => number && `${number} ${units[at]}${number === 1 ? "" : "s"}`);
  return named.filter(Boolean).join(" ") || "0 seconds";
}

const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];

/** The shortest round step that is at least `seconds` long: the distance of an axis's labels. */
export function roundStep(seconds) {
  return STEPS_S.find((step) => step >= seconds) ?? STEPS_S.at(-1);
}

function parts(seconds) {
  const whole = Math.max(0, Math.floor(seconds) || 0);
  return [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
}
