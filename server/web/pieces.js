// A segment's text, cut into the pieces that one clicks: each word with the punctuation that touches it. Pure.
//
// Words may be bare ("Hello" of " Hello, world."), the text is not; nothing of the text may get lost.

const OPENING = /[\p{Ps}\p{Pi}¿¡]+$/u;

/** `{pieces: [{lead, text}], tail}`, a piece per word; joined they are `text`. Null if a word isn't in it. */
export function cut(text, words) {
  const pieces = [];
  let end = 0;
  let prefix = "";
  let lead = "";
  for (const word of words) {
    const start = text.indexOf(word, end);
    if (start < 0) return null;
    const gap = share(text.slice(end, start), pieces.length > 0);
    if (pieces.length) pieces.at(-1).text += gap.suffix;
    ({ lead, prefix } = gap);
    pieces.push({ lead, text: prefix + word });
    end = start + word.length;
  }
  if (!pieces.length) return null;
  const suffix = /^\S*/.exec(text.slice(end))[0];
  pieces.at(-1).text += suffix;
  return { pieces, tail: text.slice(end + suffix.length) };
}

// What stands between two words: the former's closing marks, spaces, the latter's opening marks.
function share(gap, follows) {
  const opening = (/\s/.test(gap) || !follows ? /\S*$/ : OPENING).exec(gap)?.[0] ?? "";
  const rest = gap.slice(0, gap.length - opening.length);
  const suffix = follows ? /^\S*/.exec(rest)[0] : "";
  return { suffix, lead: rest.slice(suffix.length), prefix: opening };
}
