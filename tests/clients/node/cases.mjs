// Runs the cases that the command line names, or all that need no naming, and prints what became of each as JSON.

export const AUDIO = new URL("../../data/", import.meta.url);

export async function run(cases, named = {}) {
  const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(cases);
  const all = { ...cases, ...named };
  const results = {};
  for (const name of names) {
    try {
      results[name] = { value: await all[name]() };
    } catch (error) {
      results[name] = { error: described(error) };
    }
  }
  console.log(JSON.stringify(results));
}

// What a program can tell about an error without parsing its message.
function described(error) {
  const { status, statusCode, code, param, type, requestID, message } = error;
  return { class: error.constructor.name, status: status ?? statusCode, code, param, type, requestID, message };
}
