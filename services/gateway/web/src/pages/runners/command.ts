/** What a box calls its runner where people call it `name`: letters, digits and `._-`, at most 64 characters. */
export function nameOnBox(name: string): string {
  const fitting = name
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 64);
  return fitting || "runner";
}

/** The command for the box. The blank before it keeps the key out of the history of most shells. */
export function installCommand(name: string, key: string, server: string, simulated: boolean): string {
  const box = nameOnBox(name);
  const gpus = simulated ? ' --simulate-gpus "NVIDIA A10G:1"' : "";
  const install = `tether-runner install --server ${server} --name ${box}${gpus}`;
  return ` TETHER_RUNNER_KEY=${key} ${install} && tether-runner start --name ${box}`;
}

export function reauthCommand(name: string, key: string): string {
  return ` TETHER_RUNNER_KEY=${key} tether-runner reauth --name ${nameOnBox(name)}`;
}

/** The address that a box reaches this platform at, as far as this page can know: its own. */
export function serverAddress(): string {
  return location.protocol === "https:" ? location.origin : location.host.replace(/^localhost:/, "127.0.0.1:");
}
