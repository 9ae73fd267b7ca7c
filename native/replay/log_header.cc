// The header part of the log's schema: a machine's configuration as a CBOR map.
#include "replay/log_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "replay/cbor.h"
#include "replay/log_schema.h"

namespace node_mesh {
namespace {

using nlohmann::json;

template <std::size_t size>
json binary_of(const std::array<std::uint8_t, size>& bytes) {
  return json::binary(std::vector<std::uint8_t>(bytes.begin(), bytes.end()));
}

json list_of(const std::vector<DiskConfig>& disks) {
  json list = json::array();
  for (const DiskConfig& disk : disks) {
    list.push_back({{"content", binary_of(disk.content)},
                    {"size_bytes", disk.size_bytes},
                    {"read_only", disk.read_only}});
  }
  return list;
}

// Takes fields out of a map, so that what is left over is known to be unknown.
class FieldReader {
 public:
  explicit FieldReader(json map) : map_(std::move(map)) {}

  std::uint64_t number(const char* key) {
    const json value = take(key);
    if (value.is_number_unsigned()) return value.get<std::uint64_t>();
    fail(key, "not a whole number from 0");
    return 0;
  }

  std::string text(const char* key) {
    const json value = take(key);
    if (value.is_string()) return value.get<std::string>();
    fail(key, "not text");
    return {};
  }

  std::array<std::uint8_t, 32> bytes32(const char* key, bool null_allowed = false) {
    std::array<std::uint8_t, 32> bytes{};
    const json value = take(key);
    if (value.is_null() && null_allowed && !failed()) return bytes;
    if (!value.is_binary() || value.get_binary().size() != bytes.size()) {
      fail(key, "not 32 bytes");
      return bytes;
    }
    std::ranges::copy(value.get_binary(), bytes.begin());
    return bytes;
  }

  bool boolean(const char* key) {
    const json value = take(key);
    if (value.is_boolean()) return value.get<bool>();
    fail(key, "not true or false");
    return false;
  }

  std::optional<NetworkConfig> network(const char* key) {
    const json value = take(key);
    if (value.is_null() && !failed()) return std::nullopt;
    if (!value.is_object()) {
      fail(key, "not a map");
      return std::nullopt;
    }
    FieldReader fields(value);
    NetworkConfig network;
    const json mac = fields.take("mac");
    if (mac.is_binary() && mac.get_binary().size() == network.mac.size()) {
      std::ranges::copy(mac.get_binary(), network.mac.begin());
    } else {
      fields.fail("mac", "not 6 bytes");
    }
    const std::uint64_t mtu = fields.number("mtu");
    if (mtu > network_mtu_max) fields.fail("mtu", "too large");
    network.mtu = static_cast<std::uint16_t>(mtu);
    fields.finish();
    if (fields.failed()) fail(key, fields.error().c_str());
    return network;
  }

  std::vector<DiskConfig> disks(const char* key) {
    const json value = take(key);
    std::vector<DiskConfig> disks;
    if (!value.is_array() || value.size() > machine_disks_max) {
      fail(key, "not a list of at most 8 disks");
      return disks;
    }
    for (const json& item : value) {
      if (!item.is_object()) {
        fail(key, "not maps");
        break;
      }
      FieldReader fields(item);
      DiskConfig& disk = disks.emplace_back();
      disk.content = fields.bytes32("content");
      disk.size_bytes = fields.number("size_bytes");
      disk.read_only = fields.boolean("read_only");
      fields.finish();
      if (fields.failed()) fail(key, fields.error().c_str());
    }
    return disks;
  }

  void finish() {
    if (!map_.empty()) fail(map_.begin().key().c_str(), "no such field");
  }

  bool failed() const { return !error_.empty(); }
  const std::string& error() const { return error_; }

 private:
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

  void fail(const char* key, const char* why) {
    if (error_.empty()) error_ = std::string(key) + ": " + why;
  }

  json map_;
  std::string error_;
};

}  // namespace

std::expected<void, std::string> check_config(const MachineConfig& config) {
  if (config.cpu_model != "mesh-v1") return std::unexpected("cpu_model: only mesh-v1 is known");
  if (config.memory_bytes < memory_bytes_min || config.memory_bytes > memory_bytes_max ||
      config.memory_bytes % memory_bytes_unit != 0) {
    return std::unexpected("memory_bytes: not 32 MiB to 64 GiB in whole MiB");
  }
  if (config.cmdline.size() > cmdline_bytes_max) {
    return std::unexpected("cmdline: longer than 2047 bytes");
  }
  if (config.cmdline.find('\0') != std::string::npos) {
    return std::unexpected("cmdline: has a NUL in it");
  }
  if (config.start_realtime_ns >= counter_max) {
    return std::unexpected("start_realtime_ns: beyond the greatest time");
  }
  if (config.disks.size() > machine_disks_max) return std::unexpected("disks: too many");
  for (const DiskConfig& disk : config.disks) {
    if (disk.size_bytes == 0 || disk.size_bytes > machine_disk_bytes_max ||
        disk.size_bytes % disk_sector_bytes != 0) {
      return std::unexpected("disks.size_bytes: not 1 sector to 4 TiB in whole sectors");
    }
  }
  if (config.network) {
    const auto& [mac, mtu] = *config.network;
    if ((mac[0] & 1u) != 0 || mac == std::array<std::uint8_t, 6>{}) {
      return std::unexpected("net.mac: a multicast address or zero");
    }
    if (mtu < network_mtu_min || mtu > network_mtu_max) {
      return std::unexpected("net.mtu: not within 68..65521");
    }
  }
  const std::uint64_t units = config.initial_ns_per_step >> rate_shift;
  if (units > rate_units_max || units << rate_shift != config.initial_ns_per_step) {
    return std::unexpected("initial_ns_per_step: not a rate that the log can hold");
  }
  return {};
}

json map_of(const MachineConfig& config) {
  const bool has_initrd =
      std::ranges::any_of(config.initrd_sha256, [](std::uint8_t byte) { return byte != 0; });
  return {
      {"log_version", log_version},
      {"cpu_model", config.cpu_model},
      {"memory_bytes", config.memory_bytes},
      {"cmdline", config.cmdline},
      {"start_realtime_ns", config.start_realtime_ns},
      {"rng_seed", binary_of(config.rng_seed)},
      {"kernel_sha256", binary_of(config.kernel_sha256)},
      {"initrd_sha256", has_initrd ? binary_of(config.initrd_sha256) : json(nullptr)},
      {"initial_ns_per_step", config.initial_ns_per_step},
      {"rng", config.rng},
      {"net", config.network
                  ? json({{"mac", binary_of(config.network->mac)}, {"mtu", config.network->mtu}})
                  : json(nullptr)},
      {"disks", list_of(config.disks)},
  };
}

Bytes encode_header(const MachineConfig& config) {
  const auto bytes = json::to_cbor(map_of(config));
  const auto* first = reinterpret_cast<const std::byte*>(bytes.data());
  return Bytes(first, first + bytes.size());
}

std::expected<MachineConfig, std::string> decode_header(std::span<const std::byte> bytes) {
  if (bytes.size() > header_bytes_max) return std::unexpected("header: longer than any may be");
  auto map = read_cbor(bytes);
  if (!map) return std::unexpected("header: " + map.error());
  return config_of_map(std::move(*map));
}

std::expected<MachineConfig, std::string> config_of_map(json map) {
  if (!map.is_object()) return std::unexpected("header: not a map");
  FieldReader fields(std::move(map));
  const std::uint64_t version = fields.number("log_version");
  if (!fields.failed() && version != log_version) {
    return std::unexpected("header: of log version " + std::to_string(version) +
                           ", this program reads version " + std::to_string(log_version));
  }
  MachineConfig config;
  config.cpu_model = fields.text("cpu_model");
  config.memory_bytes = fields.number("memory_bytes");
  config.cmdline = fields.text("cmdline");
  config.start_realtime_ns = fields.number("start_realtime_ns");
  config.rng_seed = fields.bytes32("rng_seed");
  config.kernel_sha256 = fields.bytes32("kernel_sha256");
  config.initrd_sha256 = fields.bytes32("initrd_sha256", true);
  config.initial_ns_per_step = fields.number("initial_ns_per_step");
  config.rng = fields.boolean("rng");
  config.network = fields.network("net");
  config.disks = fields.disks("disks");
  fields.finish();
  if (fields.failed()) return std::unexpected("header: " + fields.error());
  if (auto checked = check_config(config); !checked) {
    return std::unexpected("header: " + checked.error());
  }
  return config;
}

}  // namespace node_mesh
