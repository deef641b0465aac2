// What is looked up in sorted times. Pure.

/** The index of the last of `values` (ascending) at or before `limit`, or -1. */
export function lastAtOrBefore(values, limit) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= limit) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export function clamp(value, least, most) {
  return Math.max(least, Math.min(most, value));
}
