#include "checkpoint/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "machine/guest_memory.h"
#include "replay/cbor.h"
#include "replay/file.h"
#include "replay/log_header.h"
#include "replay/log_schema.h"

namespace node_mesh {
namespace {

using nlohmann::json;

json binary_of(std::span<const std::byte> bytes) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  return json::binary(std::vector<std::uint8_t>(first, first + bytes.size()));
}

Bytes encode_inputs(const InputSources& inputs) {
  ByteWriter out;
  for (const auto& [source, seq] : inputs.newest_first()) {
    out.varint(source);
    out.varint(seq);
  }
  return out.take();
}

// Takes fields out of the map; the first that is not as it must be is the error.
class Fields {
 public:
  explicit Fields(json map) : map_(std::move(map)) {}

  json take(const char* key) {
    const auto found = map_.find(key);
    if (found == map_.end()) {
      fail(key, "missing");
      return nullptr;
    }
    json value = std::move(*found);
    map_.erase(found);
    return value;
  }
  std::uint64_t number(const char* key, std::uint64_t greatest) {
    const json value = take(key);
    if (value.is_number_unsigned() && value.get<std::uint64_t>() <= greatest) {
      return value.get<std::uint64_t>();
    }
    fail(key, "not a whole number within its range");
    return 0;
  }
  std::string text(const char* key) {
    const json value = take(key);
    if (value.is_string()) return value.get<std::string>();
    fail(key, "not text");
    return {};
  }
  Bytes bytes(const char* key) {
    const json value = take(key);
    if (!value.is_binary()) {
      fail(key, "not bytes");
      return {};
    }
    const auto& binary = value.get_binary();
    const auto* first = reinterpret_cast<const std::byte*>(binary.data());
    return Bytes(first, first + binary.size());
  }
  void fail(const std::string& key, const std::string& why) {
    if (error_.empty()) error_ = key + ": " + why;
  }
  void finish() {
    if (!map_.empty()) fail(map_.begin().key(), "no such field");
  }
  bool failed() const { return !error_.empty(); }
  const std::string& error() const { return error_; }

 private:
  json map_;
  std::string error_;
};

void read_state(Fields& fields, MachineState& state) {
  state.end = static_cast<GuestEnd>(
      fields.number("end", static_cast<std::uint64_t>(GuestEnd::unsupported)));
  state.report = fields.text("report");
  if (auto cpu = decode_cpu(fields.bytes("cpu"))) {
    state.cpu = std::move(*cpu);
  } else {
    fields.fail("cpu", cpu.error());
  }
  json devices = fields.take("devices");
  if (!devices.is_array()) fields.fail("devices", "not a list");
  for (json& device : devices) {
    if (!device.is_object()) {
      fields.fail("devices", "one is no map");
      return;
    }
    Fields one(std::move(device));
    state.devices.push_back({one.text("name"), one.bytes("state")});
    one.finish();
    if (one.failed()) fields.fail("devices", one.error());
  }
}

void read_inputs(Fields& fields, InputSources& inputs) {
  const Bytes bytes = fields.bytes("inputs");
  ByteReader in(bytes);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> newest_first;
  while (in.left() != 0 && !in.failed() && newest_first.size() <= input_sources_max) {
    const std::uint64_t source = in.varint("source", 0, UINT64_MAX);
    newest_first.emplace_back(source, in.varint("seq", 0, counter_max));
  }
  if (in.failed() || newest_first.size() > input_sources_max) fields.fail("inputs", "malformed");
  for (auto one = newest_first.rbegin(); one != newest_first.rend(); ++one)
    inputs.note(one->first, one->second);
}

bool is_ram(const MachineConfig& config, std::uint64_t gfn, std::uint64_t count) {
  const std::uint64_t low_pages = std::min(config.memory_bytes, mmio_hole_start) / page_bytes;
  const std::uint64_t high_first = mmio_hole_end / page_bytes;
  const std::uint64_t high_pages = config.memory_bytes / page_bytes - low_pages;
  if (gfn < high_first) return gfn <= low_pages && count <= low_pages - gfn;
  const std::uint64_t behind = gfn - high_first;
  return behind <= high_pages && count <= high_pages - behind;
}

void read_packs(Fields& fields, Manifest& manifest) {
  const Bytes bytes = fields.bytes("packs");
  if (bytes.size() % pack_entry_bytes != 0 || bytes.size() / pack_entry_bytes > packs_max) {
    fields.fail("packs", "not a table of packs");
    return;
  }
  ByteReader in(bytes);
  while (in.left() != 0 && !fields.failed()) {
    Manifest::Pack pack;
    std::ranges::transform(in.bytes("packs.name", 32), pack.name.begin(),
                           [](std::byte byte) { return static_cast<std::uint8_t>(byte); });
    pack.bytes = in.u64("packs.bytes");
    pack.pages = in.u32("packs.pages");
    if (pack.bytes > pack_bytes_max || pack.pages == 0 || pack.pages > pack_pages_max) {
      fields.fail("packs", "one is of no possible size");
    }
    manifest.packs.push_back(pack);
  }
}

void read_runs(Fields& fields, Manifest& manifest) {
  const Bytes bytes = fields.bytes("runs");
  ByteReader in(bytes);
  std::uint64_t end = 0;
  while (in.left() != 0 && !in.failed()) {
    Manifest::Run run;
    run.gfn = end + in.varint("runs.gfn", 0, gfn_max);
    run.count = in.varint("runs.count", 1, pack_pages_max);
    run.pack = static_cast<std::uint32_t>(in.varint("runs.pack", 0, packs_max));
    run.index = static_cast<std::uint32_t>(in.varint("runs.index", 0, pack_pages_max));
    if (in.failed()) break;
    if (!is_ram(manifest.config, run.gfn, run.count) || run.pack >= manifest.packs.size() ||
        run.index + run.count > manifest.packs[run.pack].pages) {
      in.fail("runs", "one lies outside");
      break;
    }
    end = run.gfn + run.count;
    manifest.runs.push_back(run);
  }
  if (in.failed()) fields.fail("runs", in.error());
}

void read_stale(Fields& fields, Manifest& manifest) {
  const Bytes bytes = fields.bytes("stale");
  ByteReader in(bytes);
  std::uint64_t after = 0;
  while (in.left() != 0 && !in.failed()) {
    const std::uint64_t gfn = after + in.varint("stale.gfn", 0, gfn_max);
    manifest.stale.push_back({gfn, in.u64("stale.hash")});
    if (!is_ram(manifest.config, gfn, 1)) in.fail("stale", "one lies outside");
    after = gfn + 1;
  }
  if (in.failed()) fields.fail("stale", in.error());
}

std::optional<std::string> version_trouble(Fields& fields) {
  const std::uint64_t format = fields.number("format", UINT32_MAX);
  const std::uint64_t machine = fields.number("machine", UINT32_MAX);
  if (fields.failed()) return fields.error();
  const auto of_another = [](const char* what, std::uint64_t has, std::uint64_t reads) {
    return "it is of " + std::string(what) + " version " + std::to_string(has) +
           ", this program reads version " + std::to_string(reads);
  };
  if (format != checkpoint_format) return of_another("format", format, checkpoint_format);
  if (machine != machine_state_version) {
    return of_another("machine", machine, machine_state_version);
  }
  return std::nullopt;
}

}  // namespace

ManifestHead encode_manifest_head(const Manifest& manifest) {
  json devices = json::array();
  for (const DeviceState& device : manifest.state.devices)
    devices.push_back({{"name", device.name}, {"state", binary_of(device.bytes)}});
  const json map = {{"format", checkpoint_format},
                    {"machine", machine_state_version},
                    {"config", map_of(manifest.config)},
                    {"chunk", manifest.chunk},
                    {"steps", manifest.position.steps},
                    {"user_steps", manifest.position.user_steps},
                    {"guest_ns", manifest.guest_ns},
                    {"console_bytes", manifest.console_bytes},
                    {"end", static_cast<unsigned>(manifest.state.end)},
                    {"report", manifest.state.report},
                    {"cpu", binary_of(encode_cpu(manifest.state.cpu))},
                    {"devices", devices},
                    {"inputs", binary_of(encode_inputs(manifest.inputs))},
                    {"memory_sum", manifest.memory_sum},
                    {"disks", json::array()}};
  ManifestHead head;
  head.count = static_cast<unsigned>(map.size());
  for (const auto& [key, value] : map.items()) {
    for (const auto& item : {json::to_cbor(json(key)), json::to_cbor(value)}) {
      const auto bytes = std::as_bytes(std::span(item));
      head.entries.insert(head.entries.end(), bytes.begin(), bytes.end());
    }
  }
  return head;
}

std::expected<Manifest, std::string> decode_manifest(std::span<const std::byte> bytes) {
  auto map = read_cbor(bytes);
  if (!map) return std::unexpected(map.error());
  if (!map->is_object()) return std::unexpected("it is no map");
  Fields fields(std::move(*map));
  if (const auto trouble = version_trouble(fields)) return std::unexpected(*trouble);
  Manifest manifest;
  if (auto config = config_of_map(fields.take("config"))) {
    manifest.config = std::move(*config);
  } else {
    fields.fail("config", config.error());
  }
  manifest.chunk = fields.number("chunk", chunk_number_max);
  manifest.position.steps = fields.number("steps", counter_max);
  manifest.position.user_steps = fields.number("user_steps", counter_max);
  manifest.guest_ns = fields.number("guest_ns", counter_max);
  manifest.console_bytes = fields.number("console_bytes", counter_max);
  read_state(fields, manifest.state);
  if (manifest.state.cpu.position != manifest.position) fields.fail("cpu", "at another position");
  read_inputs(fields, manifest.inputs);
  manifest.memory_sum = fields.number("memory_sum", UINT64_MAX);
  if (!manifest.config.disks.empty()) {
    fields.fail("config", "its machine has disks, which no checkpoint holds yet");
  }
  const json disks = fields.take("disks");
  if (!disks.is_array() || !disks.empty()) {
    fields.fail("disks", "this program restores no disks from a checkpoint");
  }
  if (!fields.failed()) {
    read_packs(fields, manifest);
    read_runs(fields, manifest);
    read_stale(fields, manifest);
  }
  fields.finish();
  if (fields.failed()) return std::unexpected(fields.error());
  return manifest;
}

std::uint64_t Manifest::ns_per_step() const {
  if (state.devices.empty()) return 0;
  ByteReader clock(state.devices.back().bytes);
  clock.u64("ns");
  clock.u64("steps");
  return clock.u64("ns_per_step");
}

std::optional<Sha256> promised_hash(const std::filesystem::path& file, std::string_view suffix) {
  const std::string name = file.filename().string();
  Sha256 hash{};
  if (name.size() != 2 * hash.size() + suffix.size() || !name.ends_with(suffix)) {
    return std::nullopt;
  }
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  for (std::size_t i = 0; i < hash.size(); ++i) {
    const int high = digit(name[2 * i]);
    const int low = digit(name[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    hash[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return hash;
}

std::filesystem::path pack_path(const std::filesystem::path& directory, const Sha256& name) {
  return directory / (hex_of(name) + std::string(pack_suffix));
}

std::filesystem::path manifest_path(const std::filesystem::path& directory, const Sha256& name) {
  return directory / (hex_of(name) + std::string(manifest_suffix));
}

std::expected<Manifest, std::string> read_manifest(const std::filesystem::path& file) {
  const auto cannot = [&](const std::string& why) {
    return std::unexpected("checkpoint \"" + file.string() + "\": " + why);
  };
  const auto name = promised_hash(file, manifest_suffix);
  if (!name) return cannot("its name is none of a checkpoint");
  const auto bytes = read_file(file, manifest_bytes_max);
  if (!bytes) return cannot(bytes.error());
  if (sha256_of(*bytes) != *name) return cannot("it is damaged: its content is not what it was");
  auto manifest = decode_manifest(*bytes);
  if (!manifest) return cannot(manifest.error());
  return manifest;
}

}  // namespace node_mesh
