#include "verbs/run_stats.h"

#include <fcntl.h>

#include <cmath>

#include "machine/format_text.h"
#include "replay/file.h"
#include "replay/log_json.h"

namespace node_mesh {
namespace {

using nlohmann::json;

std::string hex(std::uint64_t value) {
  return format_text("%016llx", static_cast<unsigned long long>(value));
}

json json_of_divergence(const Divergence& divergence) {
  json registers = json::array();
  for (const auto& one : divergence.registers) {
    registers.push_back(
        {{"name", one.name}, {"recorded", hex(one.recorded)}, {"replayed", hex(one.replayed)}});
  }
  return {{"steps", divergence.at.steps},
          {"user_steps", divergence.at.user_steps},
          {"registers", registers},
          {"pages", divergence.pages},
          {"devices", divergence.devices}};
}

json json_of_counters(const UserEngine::Counters& counters) {
  return {{"stretches", counters.stretches},
          {"entries", counters.entries},
          {"faults", counters.faults},
          {"traps", counters.traps},
          {"syscalls", counters.syscalls},
          {"guest_faults", counters.guest_faults},
          {"blocked_fetches", counters.blocked_fetches},
          {"kicks", counters.kicks},
          {"scanned_pages", counters.scanned_pages},
          {"blocked_pages", counters.blocked_pages},
          {"table_resets", counters.table_resets}};
}

json json_of_checkpoints(const CheckpointTotals& totals) {
  return {{"count", totals.count},
          {"bytes", totals.bytes},
          {"pages", totals.pages},
          {"pause_ms", static_cast<double>(totals.pause_ns_max) / 1e6},
          {"work_ms", static_cast<double>(totals.work_ns_max) / 1e6}};
}

}  // namespace

std::string stats_end_name(EndReason reason) {
  switch (reason) {
    case EndReason::poweroff:
      return "poweroff";
    case EndReason::reboot:
      return "reboot";
    case EndReason::timeout:
      return "timeout";
    case EndReason::stopped:
    case EndReason::signal:
      return "signal";
    case EndReason::triple_fault:
    case EndReason::unsupported:
      break;
  }
  return "error";
}

std::expected<void, std::string> write_stats(const std::filesystem::path& path,
                                             const RunStats& stats) {
  if (path.empty()) return {};
  json events = json::object();
  for (const auto& [kind, count] : stats.totals.events)
    events[std::string(kind)] = count;
  const json value = {
      {"engine", stats.engine.name},
      {"engine_why", stats.engine.why},
      {"user_engine", stats.user ? json_of_counters(*stats.user) : json()},
      {"steps", stats.steps},
      {"wall_ms", std::round(stats.wall_ms * 1000) / 1000},
      {"guest_ns", stats.guest_ns},
      {"log_bytes", stats.log_bytes},
      {"events", events},
      {"frames", stats.frames},
      {"checkpoints", stats.checkpoints ? json_of_checkpoints(*stats.checkpoints) : json()},
      {"console_bytes", stats.console_bytes},
      {"console_sha256", stats.console_sha256 ? json(hex_of(*stats.console_sha256)) : json()},
      {"digest", stats.digest ? json(hex(*stats.digest)) : json()},
      {"end", stats.end},
      {"diverged", stats.diverged ? json_of_divergence(*stats.diverged) : json()}};
  const auto fail = [&](const std::string& why) {
    return std::unexpected("Cannot write \"" + path.string() + "\": " + why +
                           "; name another file with --stats");
  };
  auto file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (!file) return fail(file.error());
  const std::string text = dump_json(value, 2) + "\n";
  if (auto wrote = write_all(file->get(), as_byte_span(text)); !wrote) {
    return fail(error_text(wrote.error()));
  }
  return {};
}

}  // namespace node_mesh
