#include "wire/control.h"

#include "replay/cbor.h"
#include "replay/log_header.h"
#include "replay/log_schema.h"

namespace node_mesh {
namespace {

using nlohmann::json;

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
  std::uint64_t number(const char* key, std::uint64_t greatest = UINT64_MAX) {
    const json value = take(key);
    if (value.is_number_unsigned() && value.get<std::uint64_t>() <= greatest) {
      return value.get<std::uint64_t>();
    }
    fail(key, "not a whole number within its range");
    return 0;
  }
  std::string text(const char* key, std::size_t bytes_max) {
    const json value = take(key);
    if (value.is_string()) {
      std::string text = value.get<std::string>();
      if (text.size() <= bytes_max && text.find('\0') == std::string::npos) return text;
    }
    fail(key, "not text within its length");
    return {};
  }
  Bytes bytes(const char* key, std::size_t bytes_max) {
    const json value = take(key);
    if (!value.is_binary() || value.get_binary().size() > bytes_max) {
      fail(key, "not bytes within their length");
      return {};
    }
    const auto& binary = value.get_binary();
    const auto* first = reinterpret_cast<const std::byte*>(binary.data());
    return Bytes(first, first + binary.size());
  }
  // None when the field is missing.
  std::vector<std::filesystem::path> paths(const char* key, std::size_t count_max) {
    std::vector<std::filesystem::path> paths;
    if (!map_.contains(key)) return paths;
    const json value = take(key);
    if (!value.is_array() || value.size() > count_max) {
      fail(key, "not a list within its length");
      return paths;
    }
    for (const json& item : value) {
      const bool text =
          item.is_string() && item.get_ref<const std::string&>().size() <= path_bytes_max;
      if (!text || item.get_ref<const std::string&>().find('\0') != std::string::npos) {
        fail(key, "not paths");
        return {};
      }
      paths.emplace_back(item.get<std::string>());
    }
    return paths;
  }
  bool null(const char* key) const {
    const auto found = map_.find(key);
    return found != map_.end() && found->is_null();
  }
  bool has(const char* key) const { return map_.contains(key); }
  void drop(const char* key) { map_.erase(key); }

  void fail(const std::string& key, const std::string& why) {
    if (error_.empty()) error_ = key + ": " + why;
  }
  // The frame if all of its fields were there, right, and no others.
  template <typename T>
  std::expected<IncomingFrame, std::string> done(T frame) {
    if (error_.empty() && !map_.empty()) fail(map_.begin().key(), "no such field");
    if (!error_.empty()) return std::unexpected(error_);
    return IncomingFrame(std::move(frame));
  }

 private:
  json map_;
  std::string error_;
};

std::expected<IncomingFrame, std::string> parse_start(Fields fields) {
  StartFrame start;
  if (auto config = config_of_map(fields.take("config"))) {
    start.config = std::move(*config);
  } else {
    fields.fail("config", config.error());
  }
  start.kernel = fields.text("kernel", path_bytes_max);
  if (fields.null("initrd")) {
    fields.drop("initrd");
  } else {
    start.initrd = fields.text("initrd", path_bytes_max);
  }
  start.engine = fields.text("engine", 16);
  if (start.engine != "interp" && start.engine != "kvm" && start.engine != "auto") {
    fields.fail("engine", "not interp, kvm or auto");
  }
  start.disks = fields.paths("disks", machine_disks_max);
  if (fields.null("checkpoint")) {
    fields.drop("checkpoint");
  } else if (fields.has("checkpoint")) {
    start.checkpoint = fields.text("checkpoint", path_bytes_max);
  }
  return fields.done(std::move(start));
}

std::expected<IncomingFrame, std::string> parse_input(Fields fields) {
  InputFrame input;
  input.source = fields.number("source");
  input.seq = fields.number("seq", counter_max);
  input.bytes = fields.bytes("data", input_bytes_max);
  return fields.done(std::move(input));
}

std::expected<IncomingFrame, std::string> parse_network(Fields fields) {
  NetworkFrame frame;
  frame.source = fields.number("source");
  frame.seq = fields.number("seq", counter_max);
  frame.bytes = fields.bytes("data", frame_event_bytes_max);
  return fields.done(std::move(frame));
}

std::expected<IncomingFrame, std::string> parse_action(Fields fields) {
  const std::string action = fields.text("action", 16);
  if (action == "power_button") return fields.done(PowerButtonFrame());
  if (action != "stop") fields.fail("action", "not stop or power_button");
  return fields.done(StopFrame());
}

std::expected<IncomingFrame, std::string> parse_committed(Fields fields) {
  CommittedFrame committed{fields.number("chunk", chunk_number_max)};
  return fields.done(committed);
}

std::expected<IncomingFrame, std::string> parse_checkpoint(Fields fields) {
  CheckpointFrame checkpoint;
  checkpoint.directory = fields.text("directory", path_bytes_max);
  checkpoint.keep = fields.number("keep", checkpoints_kept_max);
  if (checkpoint.keep == 0) fields.fail("keep", "not 1 to 1000");
  return fields.done(std::move(checkpoint));
}

std::expected<IncomingFrame, std::string> parse_kind(const std::string& kind, Fields fields) {
  if (kind == "start") return parse_start(std::move(fields));
  if (kind == "go_live") return fields.done(GoLiveFrame());
  if (kind == "input") return parse_input(std::move(fields));
  if (kind == "frame") return parse_network(std::move(fields));
  if (kind == "control") return parse_action(std::move(fields));
  if (kind == "committed") return parse_committed(std::move(fields));
  if (kind == "checkpoint") return parse_checkpoint(std::move(fields));
  if (kind == "stats") return fields.done(StatsFrame());
  if (kind == "shutdown") return fields.done(ShutdownFrame());
  return std::unexpected("no such kind");
}

}  // namespace

std::expected<IncomingFrame, std::string> parse_frame(Frame frame) {
  if (frame.type == FrameType::chunk) return ChunkFrame{std::move(frame.payload)};
  if (frame.type != FrameType::control) return std::unexpected("an output frame from the node");
  auto map = read_cbor(frame.payload);
  if (!map) return std::unexpected("a control frame: " + map.error());
  if (!map->is_object() || !map->contains("kind") || !map->at("kind").is_string()) {
    return std::unexpected("a control frame with no kind");
  }
  const std::string kind = map->at("kind").get<std::string>();
  map->erase("kind");
  auto parsed = parse_kind(kind, Fields(std::move(*map)));
  if (!parsed) {
    return std::unexpected("a control frame of kind " + kind.substr(0, 32) + ": " + parsed.error());
  }
  return parsed;
}

Bytes encode_control(const std::string& kind, json fields) {
  fields["kind"] = kind;
  const auto cbor = json::to_cbor(fields);
  return encode_frame(FrameType::control, std::as_bytes(std::span(cbor)));
}

json json_of_divergence(const Divergence& divergence) {
  json registers = json::array();
  for (const auto& one : divergence.registers) {
    registers.push_back(
        {{"name", one.name}, {"recorded", one.recorded}, {"replayed", one.replayed}});
  }
  return {{"chunk", divergence.chunk},
          {"steps", divergence.at.steps},
          {"user_steps", divergence.at.user_steps},
          {"what", divergence.what},
          {"registers", registers},
          {"pages", divergence.pages},
          {"devices", divergence.devices}};
}

}  // namespace node_mesh
