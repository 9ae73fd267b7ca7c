// The format of a recorded log: the one place on the C++ side that knows it. Whatever changes a
// byte changes `log_version` and the golden vectors in test/golden/, which the TypeScript reader
// checks too.
//
// Integers of fixed width are little-endian; `varint` is as in byte_codec.h. All of it is read as
// if an enemy had written it: each field has a range, which stands beside it, and a value outside
// refuses the whole chunk.
//
// HEADER: a CBOR map (cbor.h), at most header_bytes_max, with exactly these keys:
//   log_version          2
//   cpu_model            text, "mesh-v1"
//   memory_bytes         32 MiB..64 GiB, a multiple of 1 MiB
//   cmdline              text, at most 2047 bytes, no NUL
//   start_realtime_ns    0..2^63-1
//   rng_seed             32 bytes
//   kernel_sha256        32 bytes
//   initrd_sha256        32 bytes; null: no initrd
//   initial_ns_per_step  a rate (see clock); 0: the machine's own default
//   rng                  boolean: an entropy device
//   net                  null, or a map of a network card with exactly these keys:
//                        mac  6 bytes, of one card and not all zero
//                        mtu  68..65,521
//   disks                a list of at most 8 maps with exactly these keys:
//                        content     32 bytes, see disk/content_hash.h
//                        size_bytes  1 sector to 4 TiB, whole sectors of 512 bytes
//                        read_only   boolean
//
// CHUNK: stands alone; nothing of an earlier chunk is needed to decode it.
//   u8      log_version
//   u8      flags: bit 0 = the payload is compressed with zstd; all others 0
//   varint  number            0..2^48        which chunk of its log this is
//   varint  first.steps       0..2^63
//   varint  first.user_steps  0..2^63
//   varint  last.steps - first.steps  0..2^63
//   varint  last.user_steps   0..2^63        last must not be before first
//   varint  console_bytes     0..2^63        written by the guest up to `last`
//   varint  frames            0..2^63        Ethernet frames sent by the guest up to `last`
//   varint  event_count       0..65,536
//   varint  payload_bytes     0..1 MiB       before compression
//   ...     payload           to the end less 4; exactly payload_bytes long when not compressed
//   u32     CRC-32C of all bytes before it
// A copy may run its machine up to `last` and no further until it has the next chunk, whose number
// is one higher and whose `first` equals this `last`.
//
// EVENT, event_count times, one after the other in the payload:
//   u8      bits 0-3: kind; bit 4: at the same position as the event before it in this chunk (the
//           first event: at `first`), then the next two fields are missing; bit 5: user_steps is
//           there (else 0); bit 6: clock only: the rate is there; bit 7: 0
//   varint  steps since the event before it (the first event: since first.steps)
//   varint  user_steps        1..2^63        when bit 5 is set
// Positions never go back and lie within first..last. Then by kind:
//   1 clock    varint  ns minus the ns of the clock event before it in this chunk (the first: ns),
//                      the sum within 0..2^63
//              varint  ns_per_step >> 20, 0..2^22   when bit 6 is set; else as before it in this
//                      chunk (so the first clock event has it). Rates are 32.32 fixed point.
//   2 input    varint  source 0..2^64-1; varint seq 0..2^63; varint length 0..65,536; the bytes
//   3 control  u8      1 = stop, 2 = power_button
//   4 digest   register_count varints, in the order of registers.cc
//              varint  device count 0..32; each: u8 length 1..32, name [a-z0-9_], u64 hash
//              u64     memory sum (see state_digest.h)
//              varint  changed_pages 0..2^25: pages changed since the digest before it
//              changed_pages <= 64: each: varint gfn less (gfn before it + 1; the first: less 0),
//              the gfn
//                                   within 0..2^25; u32 low half of the page's hash
//              else: 64 x u32: sum mod 2^32 of the low halves of the hashes of those changed pages
//                                   whose gfn mod 64 is 0, 1, ..., 63
//   5 end      u8      1 poweroff, 2 reboot, 3 triple_fault, 4 unsupported, 5 stopped, 6 timeout,
//                      7 signal. The last event of a log; nothing follows it in its chunk.
//   6 preempt          a forced stop of user code that did not trap, in one or more parts, which
//                      follow each other at the position up to which its instructions were counted.
//                      Applying the whole leads one step on, still in user mode.
//              u8      1: the last part, with the state; 0: pages alone, more parts follow
//              the state: 16 varints RAX RCX RDX RBX RSP RBP RSI RDI R8-R15; varint RIP, canonical;
//                      varint RFLAGS, of the bits of user mode (preempt_rflags_mask);
//                      ES CS SS DS FS GS: each: varint selector 0..2^16-1, varint base, varint
//                      limit 0..2^32-1, varint attributes 0..2^16-1; CS and SS those of user mode;
//                      the x87 image's bytes 0-23 and 32-159; XMM0-15; u32 MXCSR 0..2^16-1
//              varint  pages 0..32 (at least 1 in a part that is not the last); each: varint gfn
//                      less (gfn before it + 1; the first: less 0), the gfn within 0..2^25; the
//                      4096 bytes that it holds now. Numbers rise from part to part too.
//   7 frame    varint  source 0..2^64-1; varint seq 0..2^63; varint length 14..65,535; the bytes:
//                      an Ethernet frame for the guest. Sources are those of input: a source sends
//                      one or the other.
//   8 entropy  varint  length 1..4,096; the bytes, for the guest's oldest request
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "kvm/user_engine.h"
#include "machine/machine_config.h"
#include "machine/position.h"
#include "replay/byte_codec.h"
#include "replay/registers.h"

namespace node_mesh {

inline constexpr std::uint8_t log_version = 2;
inline constexpr std::size_t header_bytes_max = 16 << 10;
inline constexpr std::size_t chunk_payload_bytes_max = 1 << 20;
inline constexpr std::size_t chunk_bytes_max = chunk_payload_bytes_max + 128;
inline constexpr std::uint64_t chunk_events_max = 65'536;
inline constexpr std::size_t input_bytes_max = 65'536;
inline constexpr std::size_t frame_event_bytes_min = 14, frame_event_bytes_max = 65'535;
inline constexpr std::size_t entropy_event_bytes_max = 4096;
// A part of a forced stop: what is written at once must fit into one entry of the group's log.
inline constexpr std::size_t preempt_pages_max = 32;
inline constexpr std::uint64_t preempt_rflags_mask = 0x257fd7;
inline constexpr std::uint64_t counter_max = 1ull << 63;
inline constexpr std::uint64_t chunk_number_max = 1ull << 48;
inline constexpr std::size_t digest_devices_max = 32;
inline constexpr std::size_t digest_pages_max = 64;
inline constexpr std::size_t digest_bucket_count = 64;
inline constexpr std::uint64_t gfn_max = 1ull << 25;  // 64 GiB and the device hole
inline constexpr std::uint64_t memory_bytes_unit = 1ull << 20;
inline constexpr unsigned rate_shift = 20;                   // rates are multiples of 2^-12 ns
inline constexpr std::uint64_t rate_units_max = 1ull << 22;  // 1024 ns a step

enum class EventKind : std::uint8_t {
  clock = 1,
  input = 2,
  control = 3,
  digest = 4,
  end = 5,
  preempt = 6,
  frame = 7,
  entropy = 8
};
enum class ControlKind : std::uint8_t { stop = 1, power_button = 2 };
enum class EndReason : std::uint8_t {
  poweroff = 1,
  reboot = 2,
  triple_fault = 3,
  unsupported = 4,
  stopped = 5,
  timeout = 6,
  signal = 7
};

struct ClockEvent {
  static constexpr EventKind kind = EventKind::clock;
  std::uint64_t ns = 0;
  std::uint64_t ns_per_step = 0;
  friend bool operator==(const ClockEvent&, const ClockEvent&) = default;
};

struct InputEvent {
  static constexpr EventKind kind = EventKind::input;
  std::uint64_t source = 0;
  std::uint64_t seq = 0;
  Bytes bytes;
  friend bool operator==(const InputEvent&, const InputEvent&) = default;
};

struct ControlEvent {
  static constexpr EventKind kind = EventKind::control;
  ControlKind action = ControlKind::stop;
  friend bool operator==(const ControlEvent&, const ControlEvent&) = default;
};

struct DeviceHash {
  std::string name;
  std::uint64_t hash = 0;
  friend bool operator==(const DeviceHash&, const DeviceHash&) = default;
};

struct PageHash {
  std::uint64_t gfn = 0;
  std::uint32_t hash = 0;
  friend bool operator==(const PageHash&, const PageHash&) = default;
};

struct DigestEvent {
  static constexpr EventKind kind = EventKind::digest;
  RegisterValues registers{};
  std::vector<DeviceHash> devices;
  std::uint64_t memory_sum = 0;
  std::uint64_t changed_pages = 0;
  std::vector<PageHash> pages;  // by rising gfn; empty when changed_pages > digest_pages_max
  std::array<std::uint32_t, digest_bucket_count> buckets{};  // else all 0
  friend bool operator==(const DigestEvent&, const DigestEvent&) = default;
};

struct EndEvent {
  static constexpr EventKind kind = EventKind::end;
  EndReason reason = EndReason::poweroff;
  friend bool operator==(const EndEvent&, const EndEvent&) = default;
};

struct PreemptEvent {
  static constexpr EventKind kind = EventKind::preempt;
  std::optional<UserState> state;       // in the last part
  std::vector<Preemption::Page> pages;  // by rising gfn
  friend bool operator==(const PreemptEvent&, const PreemptEvent&) = default;
};

struct FrameEvent {
  static constexpr EventKind kind = EventKind::frame;
  std::uint64_t source = 0;
  std::uint64_t seq = 0;
  Bytes bytes;
  friend bool operator==(const FrameEvent&, const FrameEvent&) = default;
};

struct EntropyEvent {
  static constexpr EventKind kind = EventKind::entropy;
  Bytes bytes;
  friend bool operator==(const EntropyEvent&, const EntropyEvent&) = default;
};

struct Event {
  Position at;
  std::variant<ClockEvent, InputEvent, ControlEvent, DigestEvent, EndEvent, PreemptEvent,
               FrameEvent, EntropyEvent>
      body;
  EventKind kind() const {
    return std::visit([](const auto& event) { return event.kind; }, body);
  }
  friend bool operator==(const Event&, const Event&) = default;
};

struct Chunk {
  std::uint64_t number = 0;
  Position first, last;
  std::uint64_t console_bytes = 0;
  std::uint64_t frames = 0;
  std::vector<Event> events;
  friend bool operator==(const Chunk&, const Chunk&) = default;
};

std::string_view event_kind_name(EventKind kind);
std::string_view control_kind_name(ControlKind kind);
std::string_view end_reason_name(EndReason reason);

// Writes the events of one chunk as they come.
class ChunkEncoder {
 public:
  // Forgets everything and starts a chunk at `first`.
  void begin(std::uint64_t number, Position first);
  void add(const Event& event);
  std::size_t payload_bytes() const { return payload_.size(); }
  std::uint64_t event_count() const { return event_count_; }
  // Is there room for one more event of any kind?
  bool full() const;
  struct Outputs {
    std::uint64_t console_bytes = 0;
    std::uint64_t frames = 0;
  };
  Bytes finish(Position last, Outputs outputs);

 private:
  void add_head(const Event& event, bool has_rate);
  ByteWriter payload_;
  std::uint64_t number_ = 0;
  std::uint64_t event_count_ = 0;
  Position first_, previous_;
  ClockEvent clock_;
  bool has_clock_ = false;
};

Bytes encode_chunk(const Chunk& chunk);
std::expected<Chunk, std::string> decode_chunk(std::span<const std::byte> bytes);

// The error says which field is wrong; also used for a configuration that a user or peer gave.
std::expected<void, std::string> check_config(const MachineConfig& config);
Bytes encode_header(const MachineConfig& config);
std::expected<MachineConfig, std::string> decode_header(std::span<const std::byte> bytes);

}  // namespace node_mesh
