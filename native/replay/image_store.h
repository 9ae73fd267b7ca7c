// The images that a log needs (kernel, initrd), by the SHA-256 of their content: kept beside a log
// file in the directory LOG.images, or inside the log. Images are checked against their names.
#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include "replay/log_file.h"

namespace node_mesh {

std::filesystem::path image_path(const std::filesystem::path& log, const Sha256& name);

// Keeps `source`, whose content is `bytes`, beside the log: a hard link where that works, else a
// clone or a copy.
std::expected<void, std::string> store_image(const std::filesystem::path& log, const Sha256& name,
                                             const std::filesystem::path& source,
                                             std::span<const std::byte> bytes);

// From the log itself if it is in there, else from beside it: then it is not checked yet, because
// hashing takes as long as a machine takes to be made. Errors are whole lines.
std::expected<Bytes, std::string> read_image(const std::filesystem::path& log,
                                             const LogReader& reader, const Sha256& name);
// To be asked about each image that was read, before anything is done with what it led to.
std::expected<void, std::string> check_image(const std::filesystem::path& log, const Sha256& name,
                                             std::span<const std::byte> bytes);

}  // namespace node_mesh
