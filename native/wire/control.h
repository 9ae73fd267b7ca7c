// The control frames of `vmm serve`: what each kind carries and which values it may have.
//
// node -> vmm                                          vmm -> node
//   start {config, kernel, initrd|null, engine,          hello {wire, log, pid}
//          disks: [path] or missing,                     ready {engine, engine_why, chunk,
//          checkpoint: path, null or missing}                   console_bytes}
//   go_live {}
//   input {source, seq, data}                            live {steps, user_steps, chunk}
//   frame {source, seq, data}                            frame_applied {source, seq, accepted}
//   control {action: "stop" | "power_button"}            progress {steps, guest_ns, chunk,
//   committed {chunk}                                              console_bytes,
//   stats {}                                                       uncommitted_bytes, idle,
//   shutdown {}                                                    output_delay_us {...}}
//   checkpoint {directory, keep: 1..1000}                input_applied {source, seq, accepted}
//                                                        checkpointed {manifest, chunk, steps,
//                                                                  user_steps, bytes, pages,
//                                                                  pause_ms, work_ms}
//                                                        checkpoint_failed {message}
//                                                        stats {...}
//                                                        ended {reason, report}
//                                                        diverged {chunk, steps, user_steps, what,
//                                                                  registers, pages, devices}
//                                                        error {message}
// `start` with a checkpoint (DIRECTORY/<sha256>.checkpoint, see checkpoint_format.h): the machine
// is restored from it, `ready` says the number of the first chunk that is wanted, and the kernel
// and initrd are not read. Without one that number is 0. `checkpoint` is taken at the end of the
// chunk that was given or recorded last. Its answer comes some time later, after others; `manifest`
// is the sha256 in hex. It is there only when all chunks before `chunk` are committed, so a
// checkpoint that is in the directory is never of a history that was given up. Failing is no error
// of the copy, which goes on. Unknown kinds, unknown, missing or ill-typed fields end the
// connection with an error frame.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "machine/machine_config.h"
#include "replay/state_digest.h"
#include "wire/frame.h"

namespace node_mesh {

inline constexpr int wire_version = 1;
inline constexpr std::size_t path_bytes_max = 4096;
inline constexpr std::uint64_t checkpoints_kept_max = 1000;

struct StartFrame {
  MachineConfig config;
  std::string kernel;
  std::optional<std::string> initrd;
  std::string engine;  // interp, kvm, auto
  // Of the images of config.disks, in their order; the field may be missing when there are none.
  std::vector<std::filesystem::path> disks;
  std::optional<std::filesystem::path> checkpoint;
};
struct GoLiveFrame {};
struct InputFrame {
  std::uint64_t source = 0;
  std::uint64_t seq = 0;
  Bytes bytes;
};
struct NetworkFrame {
  std::uint64_t source = 0;
  std::uint64_t seq = 0;
  Bytes bytes;
};
struct StopFrame {};
struct PowerButtonFrame {};
struct CommittedFrame {
  std::uint64_t chunk = 0;
};
struct CheckpointFrame {
  std::filesystem::path directory;
  std::uint64_t keep = 1;
};
struct StatsFrame {};
struct ShutdownFrame {};
struct ChunkFrame {
  Bytes bytes;
};

using IncomingFrame =
    std::variant<StartFrame, GoLiveFrame, InputFrame, NetworkFrame, StopFrame, PowerButtonFrame,
                 CommittedFrame, CheckpointFrame, StatsFrame, ShutdownFrame, ChunkFrame>;

// Errors say what is wrong with the frame.
std::expected<IncomingFrame, std::string> parse_frame(Frame frame);

// `fields` is an object; the kind is added to it.
Bytes encode_control(const std::string& kind, nlohmann::json fields);
nlohmann::json json_of_divergence(const Divergence& divergence);

}  // namespace node_mesh
