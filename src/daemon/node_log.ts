/**
 * The node's own log file, by pino: JSON lines, or text for people. One older file is kept, so that
 * a node left alone for years does not fill its disk. Never holds keys or what a guest says.
 */
import { renameSync, statSync } from "node:fs";
import { type DestinationStream, pino } from "pino";

/** The file is set aside at this size, when the node starts and once an hour. */
const logBytesMax = 8 * 1024 * 1024;
const checkMs = 3_600_000;

export const logLevels = ["trace", "debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];
export const logFormats = ["json", "text"] as const;
export type LogFormat = (typeof logFormats)[number];

export interface NodeLogOptions {
  readonly level?: LogLevel;
  readonly format?: LogFormat;
}

export interface NodeLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  close(): void;
}

export function openNodeLog(path: string, options: NodeLogOptions = {}): NodeLog {
  setAside(path);
  const file = pino.destination({ dest: path, sync: true, mode: 0o600 });
  const target = options.format === "text" ? textStream(file) : file;
  const log = pino({ level: options.level ?? defaultLevel(), base: null }, target);
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

function defaultLevel(): LogLevel {
  const given = process.env["NODE_MESH_LOG"] ?? "";
  return logLevels.find((level) => level === given) ?? "info";
}

function textStream(file: DestinationStream): DestinationStream {
  return { write: (line) => file.write(textLine(line)) };
}

/** `2026-01-01T00:00:00.000Z info  the message  vm=web term=3` */
export function textLine(line: string): string {
  const { level, time, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const name = (pino.levels.labels[Number(level)] ?? String(level)).padEnd(5);
  const words = Object.entries(fields).map(([key, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return `${key}=${/[\s"=]/.test(text) ? JSON.stringify(text) : text}`;
  });
  return `${[new Date(Number(time)).toISOString(), name, msg, ...words].join(" ")}\n`;
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
