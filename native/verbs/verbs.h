// The verbs of the vmm executable. Each adds its own subcommand and, when it was named, is what
// runs; its result is the exit status: 0, 1 (it failed, one line on stderr says why), 2 (wrong
// usage).
#pragma once

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace node_mesh {

inline constexpr int exit_ok = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;

using Verb = std::function<int()>;

// Each sets `chosen` once its subcommand has been parsed.
void add_record_verb(CLI::App& app, Verb& chosen);
void add_run_verb(CLI::App& app, Verb& chosen);
void add_replay_verb(CLI::App& app, Verb& chosen);
void add_verify_verb(CLI::App& app, Verb& chosen);
void add_inspect_verb(CLI::App& app, Verb& chosen);
void add_probe_verb(CLI::App& app, Verb& chosen);
void add_serve_verb(CLI::App& app, Verb& chosen);

// One line on stderr.
int fail(const std::string& line, int status = exit_failed);
// The stubs and the checksums need SSE4.2, POPCNT and CX16; empty when this CPU has them.
std::string missing_cpu_features();

}  // namespace node_mesh
