/** Files that are edited: sent to the server when they are needed, and again when it has forgotten them. */

import { call, typeOf } from "../api.js";

/** Return a file on its way: `told()` sends it once and returns what the server says of it, `forget()` lets it be sent again. */
export function sent(blob, name) {
  let told = null;
  return {
    blob, name,
    told: () => (told ??= call(`/api/files?name=${encodeURIComponent(name)}`, {
      method: "POST", body: blob, type: typeOf(blob),
    }).catch((error) => ((told = null), Promise.reject(error)))),
    forget: () => (told = null),
  };
}

/** Return a picture as the browser sees it, null where it cannot: turned as its EXIF says. */
export const seen = (blob) => createImageBitmap(blob).catch(() => null);
