#include "machine/loader/kernel_image.h"

#include <cstring>

#include "machine/format_text.h"
#include "machine/loader/setup_header.h"

namespace node_mesh {
namespace {

using Bytes = std::span<const std::byte>;

std::unexpected<std::string> refuse(const std::string& why) {
  return std::unexpected("Cannot load kernel: " + why);
}

template <typename T>
T value_at(Bytes file, std::size_t offset) {
  T value{};
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

bool looks_like_bzimage(Bytes file) {
  return file.size() >= setup::file_bytes_min &&
         value_at<std::uint16_t>(file, setup::boot_flag) == setup::boot_flag_value &&
         value_at<std::uint32_t>(file, setup::magic) == setup::magic_value;
}

// The compressed kernel inside of a bzImage.
std::expected<Bytes, std::string> find_payload(Bytes file) {
  // Zero means 4, from the days of floppy disks.
  const unsigned sectors = value_at<std::uint8_t>(file, setup::setup_sectors);
  const std::uint64_t base = (std::uint64_t{sectors == 0 ? 4u : sectors} + 1) * 512;
  const std::uint64_t offset = base + value_at<std::uint32_t>(file, setup::payload_offset);
  const std::uint64_t length = value_at<std::uint32_t>(file, setup::payload_length);
  if (offset > file.size() || length > file.size() - offset) {
    return std::unexpected(
        format_text("the file is cut off: its payload ends at byte %llu, the file at %zu",
                    static_cast<unsigned long long>(offset + length), file.size()));
  }
  return file.subspan(offset, length);
}

std::expected<KernelImage, std::string> read_bzimage(Bytes file) {
  const unsigned version = value_at<std::uint16_t>(file, setup::version);
  if (version < setup::version_min) {
    return refuse(format_text("its boot protocol is %u.%02u; 2.12 (Linux 3.8) or later is needed",
                              version >> 8, version & 0xff));
  }
  if ((value_at<std::uint16_t>(file, setup::xload_flags) & setup::xload_64_bit) == 0) {
    return refuse("it is a 32-bit kernel; a 64-bit x86 kernel is needed");
  }
  const std::size_t header_end = setup::magic + value_at<std::uint8_t>(file, setup::jump_distance);
  if (header_end < setup::init_size + 4 || header_end > setup::header_end_max ||
      header_end > file.size()) {
    return refuse("its setup header is damaged");
  }
  const auto payload = find_payload(file);
  if (!payload) return refuse(payload.error());
  auto unpacked = unpack_kernel(*payload);
  if (!unpacked) return refuse(unpacked.error());
  auto elf = read_elf(unpacked->view());
  if (!elf) return refuse(elf.error());
  const Bytes header = file.subspan(setup::setup_sectors, header_end - setup::setup_sectors);
  return KernelImage{std::move(*unpacked),
                     std::move(*elf),
                     {header.begin(), header.end()},
                     value_at<std::uint32_t>(file, setup::initrd_address_max)};
}

}  // namespace

std::expected<KernelImage, std::string> read_kernel_image(std::span<const std::byte> file) {
  if (file.empty()) return refuse("the file is empty");
  if (looks_like_bzimage(file)) return read_bzimage(file);
  if (looks_like_elf(file)) {
    auto elf = read_elf(file);
    if (!elf) return refuse(elf.error());
    KernelImage image;
    image.elf = std::move(*elf);
    return image;
  }
  if (file.size() >= 2 && value_at<std::uint16_t>(file, 0) == 0x8b1f) {
    return refuse("the file is gzip-compressed as a whole; unpack it first");
  }
  return refuse("the file is neither a Linux bzImage nor an x86-64 ELF kernel");
}

}  // namespace node_mesh
