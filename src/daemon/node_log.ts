/**
 * The node's own log file: JSON lines by pino. One older file is kept, so that a node left alone
 * for years does not fill its disk. Never holds keys or what a guest says.
 */
import { renameSync, statSync } from "node:fs";
import { pino } from "pino";

/** The file is set aside at this size, when the node starts and once an hour. */
const logBytesMax = 8 * 1024 * 1024;
const checkMs = 3_600_000;

export interface NodeLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  close(): void;
}

export function openNodeLog(path: string): NodeLog {
  setAside(path);
  const file = pino.destination({ dest: path, sync: true, mode: 0o600 });
  const level = process.env["NODE_MESH_LOG"] ?? "info";
  const known = Object.keys(pino.levels.values).includes(level);
  const log = pino({ level: known ? level : "info", base: null }, file);
  const timer = setInterval(() => {
    if (setAside(path)) file.reopen();
  }, checkMs).unref();
  return {
    debug: (fields, message) => log.debug(fields, message),
    info: (fields, message) => log.info(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
    close: () => {
      clearInterval(timer);
      file.end();
    },
  };
}

function setAside(path: string): boolean {
  try {
    if (statSync(path).size < logBytesMax) return false;
    renameSync(path, `${path}.1`);
    return true;
  } catch {
    return false;
  }
}
