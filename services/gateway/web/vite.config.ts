import { defineConfig } from "vitest/config";

export default defineConfig({
  // Relative to where index.html is served: always the root of the gateway.
  base: "/",
  build: {
    outDir: "../page",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    // Nothing as data: URLs in scripts; small files are cached as well as large ones.
    assetsInlineLimit: 0,
  },
  worker: { format: "es" },
  server: {
    // `npm run dev` beside a platform that runs: TETHER_GATEWAY=http://localhost:27700
    proxy: { "^/tether\\.": { target: process.env.TETHER_GATEWAY ?? "http://localhost:27700", changeOrigin: true } },
  },
  test: {
    projects: [
      // What computes needs no document, and making one for each file takes longer than all tests together.
      { extends: true, test: { name: "pure", include: ["test/**/*.test.ts"], environment: "node" } },
      { extends: true, test: { name: "page", include: ["test/**/*.test.tsx"], environment: "happy-dom" } },
    ],
  },
});
