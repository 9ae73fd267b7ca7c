#include "replay/log_schema.h"

#include <zstd.h>

#include "machine/check.h"
#include "replay/crc32c.h"
#include "replay/preempt_codec.h"

namespace node_mesh {
namespace {

constexpr std::uint8_t kind_mask = 0x0f;
constexpr std::uint8_t same_position = 0x10;
constexpr std::uint8_t has_user_steps = 0x20;
constexpr std::uint8_t has_rate = 0x40;
constexpr std::uint8_t chunk_compressed = 0x01;
constexpr int compression_level = 6;  // chunks are small: the best speed is not what counts
constexpr std::size_t event_bytes_max = preempt_pages_max * (page_bytes + 8) + 2048;
static_assert(event_bytes_max > input_bytes_max + 64);

void write_digest(ByteWriter& out, const DigestEvent& digest) {
  for (const std::uint64_t value : digest.registers)
    out.varint(value);
  out.varint(digest.devices.size());
  for (const DeviceHash& device : digest.devices) {
    out.u8(static_cast<std::uint8_t>(device.name.size()));
    out.text(device.name);
    out.u64(device.hash);
  }
  out.u64(digest.memory_sum);
  out.varint(digest.changed_pages);
  if (digest.changed_pages > digest_pages_max) {
    for (const std::uint32_t bucket : digest.buckets)
      out.u32(bucket);
    return;
  }
  std::uint64_t next = 0;
  for (const PageHash& page : digest.pages) {
    out.varint(page.gfn - next);
    out.u32(page.hash);
    next = page.gfn + 1;
  }
}

bool is_device_name(std::string_view name) {
  for (const char c : name) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

void read_devices(ByteReader& in, DigestEvent& digest) {
  const auto count = in.varint("digest.devices", 0, digest_devices_max);
  for (std::uint64_t i = 0; i < count && !in.failed(); ++i) {
    const std::uint8_t length = in.u8("digest.device.name", 32);
    if (length == 0) in.fail("digest.device.name", "empty");
    const auto text = in.bytes("digest.device.name", length);
    std::string name(reinterpret_cast<const char*>(text.data()), text.size());
    if (!is_device_name(name)) in.fail("digest.device.name", "not of a-z, 0-9 and _");
    digest.devices.push_back({std::move(name), in.u64("digest.device.hash")});
  }
}

DigestEvent read_digest(ByteReader& in) {
  DigestEvent digest;
  for (std::uint64_t& value : digest.registers) {
    value = in.varint("digest.register", 0, UINT64_MAX);
  }
  read_devices(in, digest);
  digest.memory_sum = in.u64("digest.memory_sum");
  digest.changed_pages = in.varint("digest.changed_pages", 0, gfn_max);
  if (digest.changed_pages > digest_pages_max) {
    for (std::uint32_t& bucket : digest.buckets)
      bucket = in.u32("digest.bucket");
    return digest;
  }
  std::uint64_t next = 0;
  for (std::uint64_t i = 0; i < digest.changed_pages && !in.failed(); ++i) {
    const std::uint64_t gfn = next + in.varint("digest.page", 0, gfn_max);
    if (gfn > gfn_max) in.fail("digest.page", "beyond the greatest page number");
    digest.pages.push_back({gfn, in.u32("digest.page.hash")});
    next = gfn + 1;
  }
  return digest;
}

// Decodes the events of one payload; the counterpart of ChunkEncoder.
class EventReader {
 public:
  EventReader(std::span<const std::byte> payload, const Chunk& chunk)
      : in_(payload), last_(chunk.last), previous_(chunk.first) {}

  std::expected<std::vector<Event>, std::string> read(std::uint64_t count) {
    std::vector<Event> events;
    for (std::uint64_t i = 0; i < count && !in_.failed(); ++i) {
      if (ended_) in_.fail("event", "follows the end event");
      events.push_back(one());
    }
    if (in_.left() != 0) in_.fail("payload", "bytes follow the last event");
    if (in_.failed()) return std::unexpected(in_.error());
    return events;
  }

 private:
  Event one() {
    Event event;
    const std::uint8_t tag = in_.u8("event.tag", 0x7f);
    const auto kind = static_cast<EventKind>(tag & kind_mask);
    if ((tag & has_rate) && kind != EventKind::clock) in_.fail("event.tag", "a rate with no clock");
    if ((tag & same_position) && (tag & has_user_steps)) {
      in_.fail("event.tag", "user_steps with the same position");
    }
    event.at = position(tag);
    switch (kind) {
      case EventKind::clock:
        event.body = clock(tag & has_rate);
        break;
      case EventKind::input:
        event.body = input();
        break;
      case EventKind::control:
        event.body = control();
        break;
      case EventKind::digest:
        event.body = read_digest(in_);
        break;
      case EventKind::end:
        event.body = end();
        break;
      case EventKind::preempt:
        event.body = read_preempt(in_);
        break;
      case EventKind::frame:
        event.body = frame();
        break;
      case EventKind::entropy:
        event.body = EntropyEvent{bytes("entropy.bytes", 1, entropy_event_bytes_max)};
        break;
      default:
        in_.fail("event.tag", "no such kind of event");
    }
    return event;
  }

  Position position(std::uint8_t tag) {
    if (tag & same_position) return previous_;
    Position at = previous_;
    at.steps += in_.varint("event.steps", 0, counter_max);
    at.user_steps = tag & has_user_steps ? in_.varint("event.user_steps", 1, counter_max) : 0;
    if (at <= previous_) in_.fail("event.position", "not after the one before it");
    if (at > last_) in_.fail("event.position", "after the chunk's last");
    previous_ = at;
    return at;
  }

  ClockEvent clock(bool rate) {
    clock_.ns += in_.varint("clock.ns", 0, counter_max);
    if (clock_.ns > counter_max) in_.fail("clock.ns", "beyond the greatest time");
    if (rate) {
      clock_.ns_per_step = in_.varint("clock.ns_per_step", 0, rate_units_max) << rate_shift;
      has_clock_ = true;
    }
    if (!has_clock_) in_.fail("clock.ns_per_step", "missing in the first clock event");
    return clock_;
  }

  InputEvent input() {
    InputEvent event;
    event.source = in_.varint("input.source", 0, UINT64_MAX);
    event.seq = in_.varint("input.seq", 0, counter_max);
    event.bytes = bytes("input.length", 0, input_bytes_max);
    return event;
  }

  ControlEvent control() {
    const auto kind = in_.u8("control.kind", static_cast<std::uint8_t>(ControlKind::power_button));
    if (kind == 0) in_.fail("control.kind", "0 is no kind");
    return ControlEvent{static_cast<ControlKind>(kind)};
  }

  FrameEvent frame() {
    FrameEvent event;
    event.source = in_.varint("frame.source", 0, UINT64_MAX);
    event.seq = in_.varint("frame.seq", 0, counter_max);
    event.bytes = bytes("frame.length", frame_event_bytes_min, frame_event_bytes_max);
    return event;
  }

  // A length and as many bytes.
  Bytes bytes(const char* field, std::size_t least, std::size_t greatest) {
    const auto length = in_.varint(field, least, greatest);
    const auto read = in_.bytes(field, static_cast<std::size_t>(length));
    return Bytes(read.begin(), read.end());
  }

  EndEvent end() {
    ended_ = true;
    const std::uint8_t reason = in_.u8("end.reason", static_cast<std::uint8_t>(EndReason::signal));
    if (reason == 0) in_.fail("end.reason", "0 is no reason");
    return EndEvent{static_cast<EndReason>(reason)};
  }

  ByteReader in_;
  Position last_, previous_;
  ClockEvent clock_;
  bool has_clock_ = false;
  bool ended_ = false;
};

std::expected<Bytes, std::string> decompress(std::span<const std::byte> from, std::size_t size) {
  Bytes into(size);
  const std::size_t got = ZSTD_decompress(into.data(), into.size(), from.data(), from.size());
  if (ZSTD_isError(got) || got != size) {
    return std::unexpected("payload: does not decompress to its stated length");
  }
  return into;
}

}  // namespace

std::string_view event_kind_name(EventKind kind) {
  constexpr std::array<std::string_view, 9> names = {"?",   "clock",   "input", "control", "digest",
                                                     "end", "preempt", "frame", "entropy"};
  return names.at(static_cast<std::size_t>(kind));
}

std::string_view control_kind_name(ControlKind kind) {
  return kind == ControlKind::power_button ? "power_button" : "stop";
}

std::string_view end_reason_name(EndReason reason) {
  constexpr std::array<std::string_view, 8> names = {
      "?", "poweroff", "reboot", "triple_fault", "unsupported", "stopped", "timeout", "signal"};
  return names.at(static_cast<std::size_t>(reason));
}

void ChunkEncoder::begin(std::uint64_t number, Position first) {
  payload_.clear();
  number_ = number;
  event_count_ = 0;
  first_ = previous_ = first;
  clock_ = {};
  has_clock_ = false;
}

bool ChunkEncoder::full() const {
  return event_count_ >= chunk_events_max ||
         payload_.size() + event_bytes_max > chunk_payload_bytes_max;
}

void ChunkEncoder::add_head(const Event& event, bool rate) {
  NM_CHECK(event.at >= previous_ && !full());
  auto tag = static_cast<std::uint8_t>(event.kind());
  if (rate) tag |= has_rate;
  if (event.at == previous_) {
    payload_.u8(tag | same_position);
  } else {
    payload_.u8(event.at.user_steps == 0 ? tag : tag | has_user_steps);
    payload_.varint(event.at.steps - previous_.steps);
    if (event.at.user_steps != 0) payload_.varint(event.at.user_steps);
  }
  previous_ = event.at;
  ++event_count_;
}

void ChunkEncoder::add(const Event& event) {
  if (const auto* clock = std::get_if<ClockEvent>(&event.body)) {
    const std::uint64_t units = clock->ns_per_step >> rate_shift;
    NM_CHECK(units << rate_shift == clock->ns_per_step && units <= rate_units_max);
    NM_CHECK(clock->ns >= clock_.ns && clock->ns <= counter_max);
    const bool rate = !has_clock_ || clock->ns_per_step != clock_.ns_per_step;
    add_head(event, rate);
    payload_.varint(clock->ns - clock_.ns);
    if (rate) payload_.varint(units);
    clock_ = *clock;
    has_clock_ = true;
    return;
  }
  add_head(event, false);
  if (const auto* input = std::get_if<InputEvent>(&event.body)) {
    NM_CHECK(input->bytes.size() <= input_bytes_max && input->seq <= counter_max);
    payload_.varint(input->source);
    payload_.varint(input->seq);
    payload_.varint(input->bytes.size());
    payload_.bytes(input->bytes);
  } else if (const auto* control = std::get_if<ControlEvent>(&event.body)) {
    payload_.u8(static_cast<std::uint8_t>(control->action));
  } else if (const auto* digest = std::get_if<DigestEvent>(&event.body)) {
    write_digest(payload_, *digest);
  } else if (const auto* end = std::get_if<EndEvent>(&event.body)) {
    payload_.u8(static_cast<std::uint8_t>(end->reason));
  } else if (const auto* preempt = std::get_if<PreemptEvent>(&event.body)) {
    write_preempt(payload_, *preempt);
  } else if (const auto* frame = std::get_if<FrameEvent>(&event.body)) {
    NM_CHECK(frame->bytes.size() >= frame_event_bytes_min &&
             frame->bytes.size() <= frame_event_bytes_max && frame->seq <= counter_max);
    payload_.varint(frame->source);
    payload_.varint(frame->seq);
    payload_.varint(frame->bytes.size());
    payload_.bytes(frame->bytes);
  } else if (const auto* entropy = std::get_if<EntropyEvent>(&event.body)) {
    NM_CHECK(!entropy->bytes.empty() && entropy->bytes.size() <= entropy_event_bytes_max);
    payload_.varint(entropy->bytes.size());
    payload_.bytes(entropy->bytes);
  }
}

Bytes ChunkEncoder::finish(Position last, Outputs outputs) {
  NM_CHECK(last >= previous_);
  const Bytes& raw = payload_.view();
  Bytes packed(ZSTD_compressBound(raw.size()));
  const std::size_t size =
      ZSTD_compress(packed.data(), packed.size(), raw.data(), raw.size(), compression_level);
  const bool smaller = !ZSTD_isError(size) && size < raw.size();
  packed.resize(smaller ? size : 0);

  ByteWriter out;
  out.u8(log_version);
  out.u8(smaller ? chunk_compressed : 0);
  out.varint(number_);
  out.varint(first_.steps);
  out.varint(first_.user_steps);
  out.varint(last.steps - first_.steps);
  out.varint(last.user_steps);
  out.varint(outputs.console_bytes);
  out.varint(outputs.frames);
  out.varint(event_count_);
  out.varint(raw.size());
  out.bytes(smaller ? packed : raw);
  out.u32(crc32c(out.view()));
  return out.take();
}

Bytes encode_chunk(const Chunk& chunk) {
  ChunkEncoder encoder;
  encoder.begin(chunk.number, chunk.first);
  for (const Event& event : chunk.events)
    encoder.add(event);
  return encoder.finish(chunk.last, {chunk.console_bytes, chunk.frames});
}

std::expected<Chunk, std::string> decode_chunk(std::span<const std::byte> bytes) {
  if (bytes.size() > chunk_bytes_max) return std::unexpected("chunk: longer than any may be");
  if (bytes.size() < 4) return std::unexpected("chunk: shorter than its checksum");
  const auto body = bytes.first(bytes.size() - 4);
  if (ByteReader(bytes.last(4)).u32("crc") != crc32c(body)) {
    return std::unexpected("chunk: its checksum does not match");
  }
  ByteReader in(body);
  const std::uint8_t version = in.u8("version");
  if (version != log_version) {
    return std::unexpected("chunk: of log version " + std::to_string(version) +
                           ", this program reads version " + std::to_string(log_version));
  }
  const std::uint8_t flags = in.u8("flags", chunk_compressed);
  Chunk chunk;
  chunk.number = in.varint("number", 0, chunk_number_max);
  chunk.first.steps = in.varint("first.steps", 0, counter_max);
  chunk.first.user_steps = in.varint("first.user_steps", 0, counter_max);
  chunk.last.steps = chunk.first.steps + in.varint("last.steps", 0, counter_max);
  chunk.last.user_steps = in.varint("last.user_steps", 0, counter_max);
  if (chunk.last.steps > counter_max) in.fail("last.steps", "beyond the greatest count");
  if (chunk.last < chunk.first) in.fail("last", "before first");
  chunk.console_bytes = in.varint("console_bytes", 0, counter_max);
  chunk.frames = in.varint("frames", 0, counter_max);
  const auto count = in.varint("event_count", 0, chunk_events_max);
  const auto raw_bytes =
      static_cast<std::size_t>(in.varint("payload_bytes", 0, chunk_payload_bytes_max));
  auto payload = in.bytes("payload", in.left());
  if (in.failed()) return std::unexpected("chunk: " + in.error());
  Bytes unpacked;
  if (flags & chunk_compressed) {
    auto result = decompress(payload, raw_bytes);
    if (!result) return std::unexpected("chunk: " + result.error());
    unpacked = std::move(*result);
    payload = unpacked;
  }
  if (payload.size() != raw_bytes) return std::unexpected("chunk: payload: not its stated length");
  auto events = EventReader(payload, chunk).read(count);
  if (!events) return std::unexpected("chunk: event: " + events.error());
  chunk.events = std::move(*events);
  return chunk;
}

}  // namespace node_mesh
