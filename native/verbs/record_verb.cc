// vmm record and vmm run: a guest at the terminal, with and without writing down what happens.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <future>

#include "replay/image_store.h"
#include "replay/log_file.h"
#include "replay/recorder.h"
#include "verbs/disk_options.h"
#include "verbs/guest_images.h"
#include "verbs/live_run.h"
#include "verbs/recording_checkpoints.h"
#include "verbs/run_stats.h"
#include "verbs/verbs.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

struct RecordOptions {
  fs::path log;  // empty: nothing is recorded
  GuestOptions guest;
  double timeout_s = 0;
  std::string engine = "auto";
  bool embed_images = false;
  double checkpoint_every_s = 0;
  fs::path stats;
};

// Writes chunks to a log file as they come; after an error it drops them and says so once.
class FileSink final : public ChunkSink {
 public:
  FileSink(LogWriter writer, fs::path path) : writer_(std::move(writer)), path_(std::move(path)) {}

  void chunk(std::uint64_t, Bytes bytes) override {
    if (error_.empty()) note(writer_.add_chunk(bytes));
  }
  void finish(const LogTotals& totals) {
    if (error_.empty()) note(writer_.finish(totals));
  }
  bool failed() const { return !error_.empty(); }
  const std::string& error() const { return error_; }
  std::uint64_t bytes() const { return writer_.bytes(); }

 private:
  void note(const std::expected<void, std::string>& result) {
    if (result) return;
    error_ = "Cannot record \"" + path_.string() + "\": " + result.error() +
             "; what was written replays up to there, free some space and record again";
  }
  LogWriter writer_;
  fs::path path_;
  std::string error_;
};

class RecordRun {
 public:
  explicit RecordRun(const RecordOptions& options) : options_(options) {}

  int run() {
    const std::string missing = missing_cpu_features();
    if (!missing.empty()) {
      return fail("Cannot run \"" + options_.guest.kernel.string() + "\": this CPU lacks " +
                  missing + "; use a machine with an x86-64-v2 CPU");
    }
    const std::uint64_t start_ns = host_.now_ns();
    MachineConfig config = new_config(options_.guest);
    if (auto checked = check_machine_config(config); !checked) {
      return fail(checked.error(), exit_usage);
    }
    auto images = read_guest_images(options_.guest);
    if (!images) return fail(images.error());
    auto disks = open_named_disks(options_.guest.disks);
    if (!disks) return fail(disks.error());
    for (const NamedDisk& disk : *disks)
      config.disks.push_back(disk.config);
    if (auto checked = check_machine_config(config); !checked) {
      return fail(checked.error(), exit_usage);
    }
    // Hashing takes as long as loading: the two go side by side.
    auto hashes = std::async(std::launch::async, [&] { return hash_images(*images); });
    auto kept = keep_disks(*disks);
    auto layered = layer_disks(std::move(*disks), options_.log.parent_path());
    auto machine = kept && layered ? Machine::create(config, images->kernel, images->initrd,
                                                     output_, std::move(*layered))
                                   : std::unexpected(kept ? layered.error() : kept.error());
    std::tie(config.kernel_sha256, config.initrd_sha256) = hashes.get();
    if (!machine) return fail(with_name(machine.error()));
    std::optional<FileSink> sink;
    if (!options_.log.empty()) {
      auto opened = open_log(config, *images);
      if (!opened) return fail(opened.error());
      sink.emplace(std::move(*opened));
    }
    images = GuestImages();
    auto engine = give_engine(**machine, options_.engine);
    if (!engine) return fail(engine.error());
    engine_ = std::move(*engine);
    return drive(**machine, config, sink ? &*sink : nullptr, start_ns);
  }

 private:
  // The loader does not know the names of what it is given.
  std::string with_name(const std::string& error) const {
    for (const auto& [what, path] :
         {std::pair("kernel", options_.guest.kernel), std::pair("initrd", options_.guest.initrd)}) {
      const std::string start = std::string("Cannot load ") + what;
      if (error.starts_with(start + ": ")) {
        return start + " \"" + path.string() + "\"" + error.substr(start.size());
      }
    }
    return error;
  }

  std::pair<Sha256, Sha256> hash_images(const GuestImages& images) const {
    if (options_.log.empty()) return {};
    return {sha256_of(images.kernel), images.initrd.empty() ? Sha256{} : sha256_of(images.initrd)};
  }

  // What a disk costs in time and space is spent before the guest starts.
  std::expected<void, std::string> keep_disks(const std::vector<NamedDisk>& disks) const {
    if (options_.log.empty()) return {};
    for (const NamedDisk& disk : disks) {
      const auto kept = store_disk(options_.log, disk);
      if (!kept) {
        return std::unexpected("Cannot keep disk image \"" + disk.path.string() +
                               "\" beside the log: " + kept.error() + "; free some space");
      }
      if (*kept == DiskKept::linked_to_original) {
        std::fprintf(stderr,
                     "The log refers to disk image \"%s\", which is too large to copy: "
                     "keep it as it is\n",
                     disk.path.c_str());
      }
    }
    return {};
  }

  std::expected<FileSink, std::string> open_log(const MachineConfig& config,
                                                const GuestImages& images) {
    const auto cannot = [&](const std::string& why, const std::string& remedy) {
      return std::unexpected("Cannot record \"" + options_.log.string() + "\": " + why + "; " +
                             remedy);
    };
    auto writer = LogWriter::create(options_.log, config);
    if (!writer) return cannot(writer.error(), "name another file");
    auto kept = keep_image(*writer, config.kernel_sha256, options_.guest.kernel, images.kernel);
    if (kept && !images.initrd.empty()) {
      kept = keep_image(*writer, config.initrd_sha256, options_.guest.initrd, images.initrd);
    }
    if (!kept) {
      ::unlink(options_.log.c_str());
      std::error_code ignored;
      fs::remove(image_path(options_.log, config.kernel_sha256), ignored);
      fs::remove(image_path(options_.log, config.initrd_sha256), ignored);
      fs::remove(image_path(options_.log, {}).parent_path(), ignored);  // only when empty
      return cannot("its images cannot be kept: " + kept.error(), "free some space");
    }
    return FileSink(std::move(*writer), options_.log);
  }

  std::expected<void, std::string> keep_image(LogWriter& writer, const Sha256& name,
                                              const fs::path& source, const Bytes& bytes) {
    if (options_.embed_images) return writer.add_image(name, bytes);
    return store_image(options_.log, name, source, bytes);
  }

  int drive(Machine& machine, const MachineConfig& config, FileSink* sink, std::uint64_t start_ns) {
    StateDigest digest(machine.memory().page_count());
    Recorder recorder(machine, digest, host_, {}, sink);
    Interruption interruption;
    ConsoleInput input(STDIN_FILENO);
    LiveRun::Options live_options;
    if (options_.timeout_s > 0) {
      live_options.timeout_ns = static_cast<std::uint64_t>(options_.timeout_s * 1e9);
    }
    recorder.start({0, host_.now_ns(), config.initial_ns_per_step, {}});
    std::unique_ptr<RecordingCheckpoints> checkpoints;
    if (options_.checkpoint_every_s > 0) {
      const auto interval_ns = static_cast<std::uint64_t>(options_.checkpoint_every_s * 1e9);
      auto opened = RecordingCheckpoints::open(options_.log, interval_ns, machine, config, host_);
      if (!opened) return fail(opened.error());
      checkpoints = std::move(*opened);
    }
    std::optional<EndReason> ended;
    {
      LiveRun live(recorder, host_, output_, input, interruption, live_options);
      ended = live.run(machine, [&] {
        if (checkpoints) checkpoints->look(recorder, digest);
        return sink != nullptr && sink->failed();
      });
    }
    if (checkpoints) checkpoints->finish();
    if (!ended) return fail(machine.host_failure() + "; the log replays up to there");
    const EndReason reason = *ended;
    const RunTotals& totals = recorder.totals();
    if (sink != nullptr) sink->finish({totals.chunks, totals.event_count, machine.console_bytes()});

    RunStats stats;
    stats.engine = engine_;
    if (machine.engine() != nullptr) stats.user = machine.engine()->counters();
    stats.steps = machine.position().steps;
    stats.wall_ms = static_cast<double>(host_.now_ns() - start_ns) / 1e6;
    stats.guest_ns = machine.guest_ns();
    stats.log_bytes = sink != nullptr ? sink->bytes() : 0;
    stats.totals = totals;
    stats.frames = machine.frames_sent();
    if (checkpoints) stats.checkpoints = checkpoints->totals();
    stats.console_bytes = output_.bytes();
    stats.console_sha256 = output_.sha256();
    stats.digest = digest_summary(*recorder.last_digest());
    const bool log_failed = sink != nullptr && sink->failed();
    stats.end = log_failed ? "error" : stats_end_name(reason);
    return report(machine, reason, log_failed ? sink->error() : "", stats);
  }

  int report(const Machine& machine, EndReason reason, const std::string& log_error,
             const RunStats& stats) {
    int status = exit_ok;
    if (!log_error.empty()) status = fail(log_error);
    if (reason == EndReason::triple_fault || reason == EndReason::unsupported) {
      std::fprintf(stderr, "%s\n", machine.report().c_str());
      status =
          fail("Cannot run \"" + options_.guest.kernel.string() + "\" further: it ended with " +
               std::string(end_reason_name(reason)) + "; the report above says where");
    }
    if (const auto failure = output_.failure()) {
      status = fail("Cannot write the console to \"stdout\": " + error_text(*failure) +
                    "; the guest was stopped");
    }
    if (auto wrote = write_stats(options_.stats, stats); !wrote) status = fail(wrote.error());
    return status;
  }

  const RecordOptions& options_;
  MonotonicClock host_;
  ConsoleOutput output_{STDOUT_FILENO};
  EngineChoice engine_;
};

void add_guest_options(CLI::App& verb, RecordOptions& options) {
  verb.add_option("--kernel", options.guest.kernel, "a Linux bzImage or vmlinux")->required();
  verb.add_option("--initrd", options.guest.initrd, "an initramfs");
  verb.add_option("--cmdline", options.guest.cmdline, "the kernel command line");
  verb.add_option("--mem", options.guest.memory_mib, "guest memory in MiB")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 40))
      ->capture_default_str();
  verb.add_option("--disk", options.guest.disks,
                  "a raw or qcow2 disk image, FILE[,ro][,size=N] (repeatable)")
      ->allow_extra_args(false);
  verb.add_flag("--rng", options.guest.rng, "an entropy device (virtio)");
  verb.add_flag(
      "--net", options.guest.network,
      "a network card (virtio); the frames that the guest sends are counted, not sent on");
  verb.add_option("--mtu", options.guest.mtu, "of the network card")
      ->check(CLI::Range(network_mtu_min, network_mtu_max))
      ->capture_default_str();
  verb.add_option("--timeout", options.timeout_s, "end after so many seconds")
      ->check(CLI::Range(0.0, 1e9));
  verb.add_option("--engine", options.engine, "what runs the guest")
      ->check(CLI::IsMember({"auto", "interp", "kvm"}))
      ->capture_default_str();
  verb.add_option("--stats", options.stats, "write what the run came to here, as JSON");
}

}  // namespace

void add_record_verb(CLI::App& app, Verb& chosen) {
  auto options = std::make_shared<RecordOptions>();
  CLI::App* verb = app.add_subcommand("record", "run a guest and record it");
  verb->add_option("LOG", options->log, "the log to write")->required();
  add_guest_options(*verb, *options);
  verb->add_option("--checkpoint-every", options->checkpoint_every_s,
                   "write a checkpoint into LOG.checkpoints every so many seconds")
      ->check(CLI::Range(0.01, 1e6));
  verb->add_flag("--embed-images", options->embed_images, "keep kernel and initrd inside the log");
  verb->callback([options, &chosen] { chosen = [options] { return RecordRun(*options).run(); }; });
}

void add_run_verb(CLI::App& app, Verb& chosen) {
  auto options = std::make_shared<RecordOptions>();
  CLI::App* verb = app.add_subcommand("run", "run a guest without recording it");
  add_guest_options(*verb, *options);
  verb->callback([options, &chosen] { chosen = [options] { return RecordRun(*options).run(); }; });
}

}  // namespace node_mesh
