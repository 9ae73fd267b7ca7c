// vmm inspect: what is in a log, without running it.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "machine/format_text.h"
#include "replay/host_clock.h"
#include "replay/image_store.h"
#include "replay/log_file.h"
#include "replay/log_json.h"
#include "verbs/recording_checkpoints.h"
#include "verbs/replay_start.h"
#include "verbs/run_stats.h"
#include "verbs/verbs.h"

namespace node_mesh {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct InspectOptions {
  fs::path log;
  bool events = false;
  bool as_json = false;
  fs::path stats;
};

class InspectRun {
 public:
  explicit InspectRun(const InspectOptions& options) : options_(options) {}

  int run() {
    const std::uint64_t start_ns = host_.now_ns();
    auto reader = LogReader::open(options_.log);
    if (!reader) {
      return fail("Cannot inspect \"" + options_.log.string() + "\": " + reader.error() +
                  "; name a log that was recorded");
    }
    if (options_.as_json) {
      std::printf("{\"header\":%s", dump_json(json_of(reader->config())).c_str());
      if (options_.events) std::printf(",\"events\":[");
    }
    const int status = read_chunks(*reader);
    if (options_.as_json) {
      std::printf("%s,\"summary\":%s}\n", options_.events ? "]" : "",
                  dump_json(summary(*reader)).c_str());
    } else {
      print_summary(*reader);
    }
    stats_.wall_ms = static_cast<double>(host_.now_ns() - start_ns) / 1e6;
    stats_.log_bytes = reader->bytes();
    if (stats_.end.empty()) stats_.end = "error";
    if (auto wrote = write_stats(options_.stats, stats_); !wrote) return fail(wrote.error());
    if (status == exit_ok && !reader->missing().empty()) return fail_with(reader->missing());
    return status;
  }

 private:
  int fail_with(const std::string& why) const {
    std::fflush(stdout);
    return fail("Cannot inspect \"" + options_.log.string() + "\": " + why +
                "; the log is damaged or incomplete");
  }

  int read_chunks(LogReader& reader) {
    for (;;) {
      auto raw = reader.next();
      if (!raw) return fail_with(raw.error());
      if (!*raw) return exit_ok;
      auto chunk = decode_chunk((*raw)->bytes);
      if (!chunk) {
        return fail_with(chunk.error() + " (at offset " + std::to_string((*raw)->offset) + ")");
      }
      ++stats_.totals.chunks;
      last_ = chunk->last;
      stats_.console_bytes = chunk->console_bytes;
      for (const Event& event : chunk->events)
        take(*chunk, event);
    }
  }

  void take(const Chunk& chunk, const Event& event) {
    ++stats_.totals.events[event_kind_name(event.kind())];
    ++stats_.totals.event_count;
    if (const auto* clock = std::get_if<ClockEvent>(&event.body)) stats_.guest_ns = clock->ns;
    if (const auto* end = std::get_if<EndEvent>(&event.body))
      stats_.end = stats_end_name(end->reason);
    if (const auto* digest = std::get_if<DigestEvent>(&event.body)) {
      stats_.digest = digest_summary(*digest);
    }
    if (!options_.events) return;
    json value = json_of(event);
    value["chunk"] = chunk.number;
    if (options_.as_json) {
      std::printf("%s\n%s", first_event_ ? "" : ",", dump_json(value).c_str());
      first_event_ = false;
      return;
    }
    print_event(chunk, event, value);
  }

  static void print_event(const Chunk& chunk, const Event& event, json value) {
    for (const char* known : {"at", "kind", "chunk"})
      value.erase(known);
    std::string rest;
    for (const auto& [key, field] : value.items()) {
      rest += " " + key + "=" + (field.is_string() ? field.get<std::string>() : dump_json(field));
    }
    std::printf("%llu %llu:%llu %s%s\n", static_cast<unsigned long long>(chunk.number),
                static_cast<unsigned long long>(event.at.steps),
                static_cast<unsigned long long>(event.at.user_steps),
                std::string(event_kind_name(event.kind())).c_str(), rest.c_str());
  }

  json image_state(const LogReader& reader, const Sha256& name) const {
    if (name == Sha256{}) return nullptr;
    if (reader.has_image(name)) return "embedded";
    std::error_code ignored;
    return fs::exists(image_path(options_.log, name), ignored) ? "beside" : "missing";
  }

  json checkpoints() const {
    json found = json::array();
    const auto list = list_checkpoints(checkpoints_of(options_.log));
    if (!list) return found;
    for (const CheckpointFile& one : list->checkpoints) {
      const Manifest& manifest = one.manifest;
      found.push_back({{"file", one.path.string()},
                       {"chunk", manifest.chunk},
                       {"at", json_of(manifest.position)},
                       {"guest_ns", manifest.guest_ns},
                       {"packs", manifest.packs.size()},
                       {"console_bytes", manifest.console_bytes}});
    }
    for (const std::string& why : list->damaged)
      std::fprintf(stderr, "Cannot use %s\n", why.c_str());
    return found;
  }

  json summary(const LogReader& reader) {
    json events = json::object();
    for (const auto& [kind, count] : stats_.totals.events)
      events[std::string(kind)] = count;
    return {{"checkpoints", checkpoints()},
            {"log_bytes", reader.bytes()},
            {"chunks", stats_.totals.chunks},
            {"events", events},
            {"last", json_of(last_)},
            {"guest_ns", stats_.guest_ns},
            {"console_bytes", stats_.console_bytes},
            {"end", stats_.end.empty() ? json() : json(stats_.end)},
            {"complete", reader.totals().has_value()},
            {"missing", reader.missing()},
            {"kernel", image_state(reader, reader.config().kernel_sha256)},
            {"initrd", image_state(reader, reader.config().initrd_sha256)}};
  }

  void print_summary(const LogReader& reader) {
    const MachineConfig& config = reader.config();
    const json found = summary(reader);
    const auto image = [&](const char* name, const Sha256& hash) {
      if (hash == Sha256{}) return std::string("none");
      return hex_of(hash) + " (" + found.at(name).get<std::string>() + ")";
    };
    std::string events;
    for (const auto& [kind, count] : stats_.totals.events) {
      events += (events.empty() ? "" : ", ") + std::to_string(count) + " " + std::string(kind);
    }
    const std::string end = reader.totals() ? stats_.end : "missing: " + reader.missing();
    std::printf("log       %s, version %d, %llu bytes\n", options_.log.c_str(), log_version,
                static_cast<unsigned long long>(reader.bytes()));
    std::printf("machine   %s, %llu MiB\n", config.cpu_model.c_str(),
                static_cast<unsigned long long>(config.memory_bytes >> 20));
    std::printf("kernel    %s\n", image("kernel", config.kernel_sha256).c_str());
    std::printf("initrd    %s\n", image("initrd", config.initrd_sha256).c_str());
    std::printf("cmdline   %s\n", dump_json(config.cmdline).c_str());
    std::printf("recorded  %llu chunks; events: %s\n",
                static_cast<unsigned long long>(stats_.totals.chunks), events.c_str());
    std::printf("position  %llu:%llu, guest time %.6f s, %llu console bytes\n",
                static_cast<unsigned long long>(last_.steps),
                static_cast<unsigned long long>(last_.user_steps),
                static_cast<double>(stats_.guest_ns) / 1e9,
                static_cast<unsigned long long>(stats_.console_bytes));
    std::printf("end       %s\n", end.c_str());
    for (const json& one : found.at("checkpoints")) {
      std::printf("checkpoint at %s, guest time %.6f s: %s\n",
                  text_of({one.at("at").at("steps").get<std::uint64_t>(),
                           one.at("at").at("user_steps").get<std::uint64_t>()})
                      .c_str(),
                  one.at("guest_ns").get<double>() / 1e9,
                  one.at("file").get<std::string>().c_str());
    }
  }

  const InspectOptions& options_;
  MonotonicClock host_;
  RunStats stats_;
  Position last_;
  bool first_event_ = true;
};

}  // namespace

void add_inspect_verb(CLI::App& app, Verb& chosen) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* verb = app.add_subcommand("inspect", "show what is in a log");
  verb->add_option("LOG", options->log, "a recorded log")->required();
  verb->add_flag("--events", options->events, "print each event");
  verb->add_flag("--json", options->as_json, "print JSON");
  verb->add_option("--stats", options->stats, "write what the log comes to here, as JSON");
  verb->callback([options, &chosen] { chosen = [options] { return InspectRun(*options).run(); }; });
}

}  // namespace node_mesh
