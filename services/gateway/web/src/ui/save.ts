// A browser may begin to read what it saves long after the click.
const REVOKE_MS = 60_000;

/** Saves what is in memory as a file, as browsers save downloads. */
export function saveAs(name: string, parts: BlobPart[], type: string): void {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), REVOKE_MS);
}
