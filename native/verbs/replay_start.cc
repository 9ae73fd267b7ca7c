#include "verbs/replay_start.h"

#include <charconv>
#include <future>

#include "checkpoint/checkpoint_directory.h"
#include "checkpoint/checkpoint_loader.h"
#include "machine/format_text.h"
#include "replay/disk_store.h"
#include "replay/image_store.h"
#include "verbs/recording_checkpoints.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

std::expected<ReplayStart, std::string> start_at_power_on(const fs::path& log,
                                                          const LogReader& reader,
                                                          ConsoleSink& console) {
  const MachineConfig& config = reader.config();
  auto kernel = read_image(log, reader, config.kernel_sha256);
  if (!kernel) return std::unexpected(kernel.error());
  Bytes initrd;
  const bool has_initrd = config.initrd_sha256 != Sha256{};
  if (has_initrd) {
    auto read = read_image(log, reader, config.initrd_sha256);
    if (!read) return std::unexpected(read.error());
    initrd = std::move(*read);
  }
  // Hashing takes as long as loading: the two go side by side.
  auto checked = std::async(std::launch::async, [&] {
    auto result = check_image(log, config.kernel_sha256, *kernel);
    if (!result || !has_initrd) return result;
    return check_image(log, config.initrd_sha256, initrd);
  });
  auto disks = open_disks(config, disk_paths(log, config), log.parent_path());
  if (!disks) {
    checked.get();
    return std::unexpected(disks.error());
  }
  auto machine = Machine::create(config, *kernel, initrd, console, std::move(*disks));
  if (auto result = checked.get(); !result) return std::unexpected(result.error());
  if (!machine) return std::unexpected(machine.error());
  StateDigest digest((*machine)->memory().page_count());
  return ReplayStart{std::move(*machine), std::move(digest), {}, std::nullopt};
}

std::expected<ReplayStart, std::string> start_at(const fs::path& file, const LogReader& reader,
                                                 ConsoleSink& console) {
  auto restored = restore_checkpoint(file, console);
  if (!restored) {
    return std::unexpected("Cannot use " + restored.error() + "; name another with --from");
  }
  const Manifest& manifest = restored->manifest;
  if (encode_header(manifest.config) != encode_header(reader.config())) {
    return std::unexpected("Cannot use checkpoint \"" + file.string() +
                           "\": it belongs to another log; name one of this log's with --from");
  }
  return ReplayStart{std::move(restored->machine),
                     std::move(restored->digest),
                     {manifest.chunk, manifest.ns_per_step(), manifest.inputs},
                     std::nullopt};
}

}  // namespace

std::optional<Position> parse_position(const std::string& text) {
  Position position;
  const char* const end = text.data() + text.size();
  auto steps = std::from_chars(text.data(), end, position.steps);
  if (steps.ec != std::errc()) return std::nullopt;
  if (steps.ptr == end) return position;
  if (*steps.ptr != ':') return std::nullopt;
  const auto user = std::from_chars(steps.ptr + 1, end, position.user_steps);
  if (user.ec != std::errc() || user.ptr != end) return std::nullopt;
  return position;
}

std::string text_of(Position position) {
  return format_text("%llu:%llu", static_cast<unsigned long long>(position.steps),
                     static_cast<unsigned long long>(position.user_steps));
}

std::expected<ReplayStart, std::string> start_replay(const fs::path& log, const LogReader& reader,
                                                     const std::string& from,
                                                     ConsoleSink& console) {
  if (from.empty()) return start_at_power_on(log, reader, console);
  const auto position = parse_position(from);
  if (!position) return start_at(from, reader, console);
  // The nearest checkpoint that is not behind it; without one the whole way is replayed.
  auto list = list_checkpoints(checkpoints_of(log));
  const CheckpointFile* nearest = nullptr;
  if (list) {
    for (const CheckpointFile& one : list->checkpoints) {
      if (one.manifest.position <= *position) nearest = &one;
    }
  }
  auto start = nearest != nullptr ? start_at(nearest->path, reader, console)
                                  : start_at_power_on(log, reader, console);
  if (start) start->mute = position;
  return start;
}

}  // namespace node_mesh
