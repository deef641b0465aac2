// Times and sizes as people read and hear them. Pure; times in seconds.

/** Seconds that are left, as roughly as they are known. */
export function left(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s left`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min left`;
  return `${Math.round(seconds / 3600)} h left`;
}

export function size(bytes) {
  const [unit, name] = bytes < 1e6 ? [1e3, "kB"] : bytes < 1e9 ? [1e6, "MB"] : [1e9, "GB"];
  const value = bytes / unit;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${name}`;
}

export function times(factor) {
  return `${factor < 10 ? factor.toFixed(1) : Math.round(factor)}×`;
}

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
