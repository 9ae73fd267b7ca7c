// vmm replay and vmm verify: a log run again, for its console output or for its digests. Both
// compare every digest on the way; verify prints nothing of the console and says what it found.
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "replay/disk_store.h"
#include "replay/log_file.h"
#include "replay/replayer.h"
#include "verbs/console.h"
#include "verbs/interruption.h"
#include "verbs/replay_start.h"
#include "verbs/run_stats.h"
#include "verbs/verbs.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

struct ReplayOptions {
  fs::path log;
  std::string until;
  std::string from;
  std::string engine = "auto";
  fs::path stats;
  std::vector<fs::path> disks_out;
  bool verify = false;
};

class ReplayRun final : Kickable {
 public:
  explicit ReplayRun(const ReplayOptions& options)
      : options_(options), output_(options.verify ? -1 : STDOUT_FILENO) {}

  int run() {
    const std::string missing = missing_cpu_features();
    if (!missing.empty()) {
      return fail_with("this CPU lacks " + missing, "use a machine with an x86-64-v2 CPU");
    }
    if (!options_.until.empty()) {
      until_ = parse_position(options_.until);
      if (!until_) {
        return fail("Cannot use --until \"" + options_.until +
                        "\": it is no position; write STEPS or STEPS:USER_STEPS",
                    exit_usage);
      }
    }
    const std::uint64_t start_ns = host_.now_ns();
    auto reader = LogReader::open(options_.log);
    if (!reader) return fail_with(reader.error(), "name a log that was recorded");
    auto start = start_replay(options_.log, *reader, options_.from, output_);
    if (!start) return fail(start.error());
    Machine& machine = *start->machine;
    auto engine = give_engine(machine, options_.engine);
    if (!engine) return fail(engine.error());
    engine_ = std::move(*engine);
    mute_ = start->mute;
    Replayer replayer(machine, start->digest, true);
    replayer.start(std::move(start->from));
    replayer_ = &replayer;
    interruption_.set_target(this);
    const int status = drive(*reader, machine, replayer);
    interruption_.set_target(nullptr);
    replayer_ = nullptr;
    return finish(status, *reader, machine, start->digest, replayer, start_ns);
  }

 private:
  void kick() override { replayer_->interrupt(); }

  int fail_with(const std::string& why, const std::string& remedy) const {
    return fail("Cannot " + std::string(options_.verify ? "verify" : "replay") + " \"" +
                options_.log.string() + "\": " + why + "; " + remedy);
  }

  // Plays chunk after chunk; the result is the exit status, `end_` says how it ended.
  int drive(LogReader& reader, Machine& machine, Replayer& replayer) {
    for (;;) {
      auto raw = reader.next();
      if (!raw) return fail_with(raw.error(), "the log is damaged; record it again");
      if (!*raw) break;
      auto chunk = decode_chunk((*raw)->bytes);
      if (!chunk) {
        return fail_with(chunk.error() + " (at offset " + std::to_string((*raw)->offset) + ")",
                         "the log is damaged; record it again");
      }
      if (chunk->number < replayer.next_chunk()) continue;  // before the checkpoint
      auto status = apply(replayer, *chunk);
      if (!status) return fail_with(status.error(), "the log is damaged; record it again");
      if (output_.failure()) return output_failed();
      if (interruption_.requested()) {
        end_ = "signal";
        return fail_with("interrupted at position " + text_of(machine.position()),
                         "replay it again for the rest");
      }
      if (*status == Replayer::Status::diverged) return diverged(replayer);
      if (*status == Replayer::Status::host_failed) {
        return fail_with(machine.host_failure(), "the log itself is whole up to there");
      }
      if (*status == Replayer::Status::stopped) {
        end_ = "timeout";
        return exit_ok;
      }
    }
    return at_end(reader, machine, replayer);
  }

  using Status = std::expected<Replayer::Status, std::string>;

  // On the way to where the user wants to begin, nothing is printed.
  Status apply(Replayer& replayer, const Chunk& chunk) {
    if (mute_ && *mute_ <= chunk.last) {
      const Position to = until_ ? std::min(*mute_, *until_) : *mute_;
      const Status status = apply_until(replayer, chunk, to);
      output_.forget_pending();
      if (!status || *status != Replayer::Status::stopped) return status;
      mute_.reset();
      if (until_ && *until_ <= to) return status;
    }
    const Status status = apply_until(replayer, chunk, until_);
    if (mute_) output_.forget_pending();
    write_output();
    return status;
  }

  Status apply_until(Replayer& replayer, const Chunk& chunk, std::optional<Position> until) {
    for (;;) {
      const Status status = replayer.apply(chunk, until);
      if (!status || *status != Replayer::Status::interrupted || interruption_.requested()) {
        return status;
      }
    }
  }

  int at_end(const LogReader& reader, const Machine& machine, const Replayer& replayer) {
    if (!reader.missing().empty()) {
      return fail_with(reader.missing() + " (" + std::to_string(replayer.totals().chunks) +
                           " whole chunks, up to position " + text_of(machine.position()) +
                           ", were replayed)",
                       "the rest was never written or is lost");
    }
    if (!replayer.end()) return fail_with("its last chunk has no end event", "record it again");
    end_ = stats_end_name(*replayer.end());
    if (until_) {
      return fail_with(
          "it ends at position " + text_of(machine.position()) + ", before " + options_.until,
          "name an earlier position with --until");
    }
    return exit_ok;
  }

  int output_failed() const {
    return fail("Cannot write the console to \"stdout\": " + error_text(*output_.failure()) +
                "; the replay was stopped");
  }

  int diverged(const Replayer& replayer) {
    end_ = "diverged";
    const Divergence& divergence = replayer.divergence();
    const int status =
        fail_with("it diverged at position " + text_of(divergence.at) + " in chunk " +
                      std::to_string(divergence.chunk) + " (" + divergence.what + ")",
                  replayer.last_verified()
                      ? "the state was right at position " + text_of(*replayer.last_verified())
                      : "no digest before it was compared");
    for (const auto& one : divergence.registers) {
      std::fprintf(stderr, "  register %s: recorded %#llx, replayed %#llx\n", one.name.c_str(),
                   static_cast<unsigned long long>(one.recorded),
                   static_cast<unsigned long long>(one.replayed));
    }
    for (const std::string& name : divergence.devices) {
      std::fprintf(stderr, "  device %s\n", name.c_str());
    }
    for (const std::uint64_t gfn : divergence.pages) {
      std::fprintf(stderr, "  page at %#llx\n", static_cast<unsigned long long>(gfn * page_bytes));
    }
    return status;
  }

  // A replay may wait for its reader, but not for ever once the user gave up.
  void write_output() {
    for (;;) {
      output_.write_some();
      if (output_.pending() == 0 || interruption_.requested()) return;
      pollfd waited[] = {{output_.fd(), POLLOUT, 0}, {interruption_.descriptor(), POLLIN, 0}};
      ::poll(waited, 2, -1);
    }
  }

  // As they are where the replay ended, be it that the log was cut off there.
  std::expected<void, std::string> write_disks(const Machine& machine) const {
    if (options_.disks_out.size() > machine.disks().size()) {
      return std::unexpected("Cannot write disk image \"" + options_.disks_out.back().string() +
                             "\": the machine has " + std::to_string(machine.disks().size()) +
                             " disks; give --disk-out once for each");
    }
    if (end_ == "diverged" || !machine.host_failure().empty()) return {};
    for (std::size_t i = 0; i < options_.disks_out.size(); ++i) {
      if (auto wrote = write_disk(*machine.disks()[i], options_.disks_out[i]); !wrote) return wrote;
    }
    return {};
  }

  int finish(int status, const LogReader& reader, Machine& machine, StateDigest& digest,
             const Replayer& replayer, std::uint64_t start_ns) {
    RunStats stats;
    stats.engine = engine_;
    if (machine.engine() != nullptr) stats.user = machine.engine()->counters();
    stats.steps = machine.position().steps;
    stats.guest_ns = machine.guest_ns();
    stats.log_bytes = reader.bytes();
    stats.totals = replayer.totals();
    stats.frames = machine.frames_sent();
    stats.console_bytes = output_.bytes();
    stats.console_sha256 = output_.sha256();
    stats.digest = digest_summary(replayer.end() && status == exit_ok && replayer.last_digest()
                                      ? *replayer.last_digest()
                                      : digest.take(machine));
    stats.end = end_;
    if (end_ == "diverged") stats.diverged = replayer.divergence();
    stats.wall_ms = static_cast<double>(host_.now_ns() - start_ns) / 1e6;
    if (options_.verify && status == exit_ok) {
      std::printf("%s: verified, %llu digests equal, end %s at position %s\n", options_.log.c_str(),
                  static_cast<unsigned long long>(replayer.digests_compared()), end_.c_str(),
                  text_of(machine.position()).c_str());
    }
    if (auto wrote = write_disks(machine); !wrote) status = fail(wrote.error());
    if (auto wrote = write_stats(options_.stats, stats); !wrote) status = fail(wrote.error());
    return status;
  }

  const ReplayOptions& options_;
  MonotonicClock host_;
  Interruption interruption_;
  ConsoleOutput output_;
  std::optional<Position> until_;
  std::optional<Position> mute_;
  Replayer* replayer_ = nullptr;
  EngineChoice engine_;
  std::string end_ = "error";
};

void add_verb(CLI::App& app, Verb& chosen, bool verify) {
  auto options = std::make_shared<ReplayOptions>();
  options->verify = verify;
  CLI::App* verb = verify ? app.add_subcommand("verify", "compare a log's digests with a replay")
                          : app.add_subcommand("replay", "run a log again and print its console");
  verb->add_option("LOG", options->log, "a recorded log")->required();
  verb->add_option("--from", options->from,
                   "begin at a position, or at a checkpoint's file; saves the way there if there "
                   "is a checkpoint");
  verb->add_option("--until", options->until, "stop at the position STEPS or STEPS:USER_STEPS");
  verb->add_option("--engine", options->engine, "what runs the guest")
      ->check(CLI::IsMember({"auto", "interp", "kvm"}))
      ->capture_default_str();
  verb->add_option("--disk-out", options->disks_out,
                   "write the first, second, ... disk here, as it is where the replay ends")
      ->allow_extra_args(false);
  verb->add_option("--stats", options->stats, "write what the run came to here, as JSON");
  verb->callback([options, &chosen] { chosen = [options] { return ReplayRun(*options).run(); }; });
}

}  // namespace

void add_replay_verb(CLI::App& app, Verb& chosen) { add_verb(app, chosen, false); }
void add_verify_verb(CLI::App& app, Verb& chosen) { add_verb(app, chosen, true); }

}  // namespace node_mesh
