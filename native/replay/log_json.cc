#include "replay/log_json.h"

#include <algorithm>

#include "machine/format_text.h"
#include "replay/crc32c.h"
#include "replay/sha256.h"

namespace node_mesh {
namespace {

using nlohmann::json;

std::string hex_number(std::uint64_t value) {
  return format_text("0x%llx", static_cast<unsigned long long>(value));
}

std::string hex_of_bytes(const Bytes& bytes) {
  return hex_of({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
}

json body_of(const ClockEvent& event) {
  return {{"ns", event.ns}, {"ns_per_step", event.ns_per_step}};
}

json body_of(const InputEvent& event) {
  return {{"source", std::to_string(event.source)},
          {"seq", event.seq},
          {"bytes", hex_of_bytes(event.bytes)}};
}

json body_of(const ControlEvent& event) { return {{"action", control_kind_name(event.action)}}; }

json body_of(const DigestEvent& event) {
  json registers = json::object();
  for (std::size_t i = 0; i < register_count; ++i) {
    registers[std::string(register_name(i))] = hex_number(event.registers[i]);
  }
  json devices = json::object();
  for (const DeviceHash& device : event.devices)
    devices[device.name] = hex_number(device.hash);
  json body = {{"registers", registers},
               {"devices", devices},
               {"memory_sum", hex_number(event.memory_sum)},
               {"changed_pages", event.changed_pages}};
  if (event.changed_pages > digest_pages_max) {
    body["buckets"] = event.buckets;
  } else {
    json pages = json::array();
    for (const PageHash& page : event.pages) {
      pages.push_back({{"gfn", page.gfn}, {"hash", hex_number(page.hash)}});
    }
    body["pages"] = pages;
  }
  return body;
}

// Pages by a check sum alone: their content says nothing to a reader.
json body_of(const PreemptEvent& event) {
  json pages = json::array();
  for (const Preemption::Page& page : event.pages) {
    pages.push_back({{"gfn", page.gfn}, {"crc32c", hex_number(crc32c(page.bytes))}});
  }
  json body = {{"pages", pages}, {"last", event.state.has_value()}};
  if (!event.state) return body;
  json registers = json::object();
  for (std::size_t i = 0; i < event.state->gpr.size(); ++i) {
    registers[std::string(register_name(i))] = hex_number(event.state->gpr[i]);
  }
  registers["rip"] = hex_number(event.state->rip);
  registers["rflags"] = hex_number(event.state->rflags);
  registers["mxcsr"] = hex_number(event.state->fpu.mxcsr);
  body["registers"] = registers;
  return body;
}

json body_of(const FrameEvent& event) {
  return {{"source", std::to_string(event.source)},
          {"seq", event.seq},
          {"bytes", hex_of_bytes(event.bytes)}};
}

json body_of(const EntropyEvent& event) { return {{"bytes", hex_of_bytes(event.bytes)}}; }

json body_of(const EndEvent& event) { return {{"reason", end_reason_name(event.reason)}}; }

}  // namespace

json json_of(const MachineConfig& config) {
  json disks = json::array();
  for (const DiskConfig& disk : config.disks) {
    disks.push_back({{"content", hex_of(disk.content)},
                     {"size_bytes", disk.size_bytes},
                     {"read_only", disk.read_only}});
  }
  const bool has_initrd =
      std::ranges::any_of(config.initrd_sha256, [](std::uint8_t byte) { return byte != 0; });
  return {{"log_version", log_version},
          {"cpu_model", config.cpu_model},
          {"memory_bytes", config.memory_bytes},
          {"cmdline", config.cmdline},
          {"start_realtime_ns", config.start_realtime_ns},
          {"rng_seed", hex_of(config.rng_seed)},
          {"kernel_sha256", hex_of(config.kernel_sha256)},
          {"initrd_sha256", has_initrd ? json(hex_of(config.initrd_sha256)) : json(nullptr)},
          {"initial_ns_per_step", config.initial_ns_per_step},
          {"rng", config.rng},
          {"net", config.network
                      ? json({{"mac", hex_of(config.network->mac)}, {"mtu", config.network->mtu}})
                      : json(nullptr)},
          {"disks", disks}};
}

json json_of(const Position& position) {
  return {{"steps", position.steps}, {"user_steps", position.user_steps}};
}

json json_of(const Event& event) {
  json value = std::visit([](const auto& body) { return body_of(body); }, event.body);
  value["at"] = json_of(event.at);
  value["kind"] = event_kind_name(event.kind());
  return value;
}

json json_of(const Chunk& chunk) {
  json events = json::array();
  for (const Event& event : chunk.events)
    events.push_back(json_of(event));
  return {{"number", chunk.number},      {"first", json_of(chunk.first)},
          {"last", json_of(chunk.last)}, {"console_bytes", chunk.console_bytes},
          {"frames", chunk.frames},      {"events", events}};
}

std::string dump_json(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

}  // namespace node_mesh
