// Takes checkpoints of a running machine. The machine pauses only while its process is forked: the
// child has a copy of everything, costs memory only where the guest writes meanwhile, and does the
// work. Each checkpoint holds the pages written since the one before it and refers to that one's
// packs for the rest. One at a time; the owner asks now and then what became of it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_child.h"
#include "checkpoint/checkpoint_directory.h"
#include "checkpoint/manifest.h"
#include "machine/machine.h"
#include "replay/file.h"
#include "replay/state_digest.h"

namespace node_mesh {

struct WrittenCheckpoint {
  Sha256 name{};
  std::uint64_t chunk = 0;
  Position position;
  std::uint64_t bytes = 0;     // written for it
  std::uint64_t pages = 0;     // that it did not share with the one before
  std::uint64_t pause_ns = 0;  // during which the guest could not run
  std::uint64_t work_ns = 0;   // of the child
};

class CheckpointWriter {
 public:
  struct Options {
    std::filesystem::path directory;
    std::size_t keep = 0;  // how many of the newest stay; 0: all
  };
  // Makes the directory if need be and clears it up. Errors are whole sentences.
  static std::expected<std::unique_ptr<CheckpointWriter>, std::string> open(Options options,
                                                                            Machine& machine);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // The machine was restored from this checkpoint: what has not been written since lies there.
  void start_from(const Manifest& manifest, const std::filesystem::path& file);

  // Other checkpoints of this machine were taken elsewhere meanwhile: the next one holds all of it.
  void start_over();

  struct Point {
    const MachineConfig& config;
    std::uint64_t chunk = 0;  // the next one
    const InputSources& inputs;
  };
  // Between two chunks of the log. The checkpoint becomes one only after release().
  std::expected<void, std::string> begin(const StateDigest& digest, const Point& point);
  bool busy() const { return child_ > 0; }
  // The log up to the checkpoint is safe: it may be used.
  void release();
  // Once what was begun has come to an end: what it was, or why there is none.
  using Result = std::expected<WrittenCheckpoint, std::string>;
  std::optional<Result> poll();
  std::optional<Result> wait();

  const std::filesystem::path& directory() const { return options_.directory; }
  std::size_t keep() const { return options_.keep; }

 private:
  CheckpointWriter(Options options, Machine& machine)
      : options_(std::move(options)), machine_(machine) {}
  Result end(int status);
  void collect();
  std::string named(const std::string& why) const;

  const Options options_;
  Machine& machine_;
  FileDescriptor directory_;
  Mapping tables_[2];
  unsigned current_ = 0;  // the table of the last checkpoint
  Mapping report_memory_;
  pid_t child_ = 0;
  FileDescriptor release_;
  std::vector<std::uint8_t> set_;  // what the child has to look at
  WrittenCheckpoint pending_;

  struct Kept {
    Sha256 name{};
    std::vector<Sha256> packs;
  };
  std::vector<Kept> kept_;  // oldest first
};

}  // namespace node_mesh
