// Where a text holds what is searched for. Pure.

/** `{segment, from, to}` for every hit in `segments` (each with `text`), in order; case and spaces don't count. */
export function matchesIn(segments, query) {
  const words = query.trim().split(/\s+/).filter(Boolean).map(escaped);
  if (!words.length) return [];
  const pattern = new RegExp(words.join("\\s+"), "giu");
  return segments.flatMap((segment) =>
    [...segment.text.matchAll(pattern)].map(({ index, 0: hit }) => ({ segment, from: index, to: index + hit.length })),
  );
}

/** The piece of `segment` in which its character `offset` stands. */
export function pieceAt(segment, offset) {
  let passed = 0;
  for (const piece of segment.pieces) {
    passed += `${piece}`.length;
    if (offset < passed && piece.text) return piece;
  }
  return segment.pieces.findLast((piece) => piece.text);
}

function escaped(text) {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}
