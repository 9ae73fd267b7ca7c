#include "verbs/disk_options.h"

#include <charconv>
#include <optional>

namespace node_mesh {
namespace {

std::optional<std::uint64_t> parse_size(std::string_view text) {
  unsigned shift = 0;
  constexpr std::string_view units = "KMGT";
  if (!text.empty()) {
    const auto unit = units.find(text.back());
    if (unit != std::string_view::npos) {
      shift = 10 * (static_cast<unsigned>(unit) + 1);
      text.remove_suffix(1);
    }
  }
  std::uint64_t count = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), count);
  const bool whole = read.ec == std::errc() && read.ptr == text.data() + text.size();
  if (!whole || count == 0 || count > UINT64_MAX >> shift) return std::nullopt;
  return count << shift;
}

}  // namespace

std::expected<DiskOption, std::string> parse_disk_option(const std::string& text) {
  const auto cannot = [&](const std::string& why) {
    return std::unexpected("Cannot use --disk \"" + text + "\": " + why +
                           "; write FILE[,ro][,size=N], N with K, M, G or T behind it");
  };
  DiskOption option;
  std::string rest = text;
  // From the end, so that a file's name may have commas in it.
  for (auto comma = rest.rfind(','); comma != std::string::npos; comma = rest.rfind(',')) {
    const std::string last = rest.substr(comma + 1);
    if (last == "ro") {
      option.read_only = true;
    } else if (last.starts_with("size=")) {
      const auto size = parse_size(std::string_view(last).substr(5));
      if (!size || *size % sector_bytes != 0 || *size > disk_bytes_max) {
        return cannot("the size is not 1 sector to 4 TiB in whole sectors of 512 bytes");
      }
      option.size_bytes = *size;
    } else {
      break;
    }
    rest.resize(comma);
  }
  if (rest.empty()) return cannot("it names no file");
  option.file = rest;
  return option;
}

std::expected<std::vector<NamedDisk>, std::string> open_named_disks(
    const std::vector<std::string>& options) {
  std::vector<NamedDisk> disks;
  for (const std::string& text : options) {
    auto option = parse_disk_option(text);
    if (!option) return std::unexpected(option.error());
    auto disk = open_named_disk(option->file, option->size_bytes, option->read_only);
    if (!disk) return std::unexpected(disk.error());
    disks.push_back(std::move(*disk));
  }
  return disks;
}

}  // namespace node_mesh
