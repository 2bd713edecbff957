// Checkpoints in files, for hosts with a file system: open, list tensors, decode one. df11.h says what holds here as well.
//
// SPDX-License-Identifier: MIT OR Apache-2.0


#ifndef DF11_FILES_H
#define DF11_FILES_H

// Made by bindings/c/headers.sh from the sources of the library; change those.

#include <stddef.h>
#include <stdint.h>
#include "df11.h"

// An open checkpoint. Made by `df11_open`, ended by `df11_close`. Its files stay memory-mapped meanwhile, and must not be
// changed. Many threads may use one at the same time.
typedef struct df11_checkpoint df11_checkpoint;

// A tensor of a checkpoint, as it was before compression. What is pointed to lives as long as the checkpoint is open.
typedef struct df11_tensor {
  // Its name; up to the first zero byte, should it have one.
  const char *name;
  // The type of its elements, as safetensors calls it: "BF16", "F32", ….
  const char *dtype;
  // The number of dimensions.
  size_t rank;
  // The dimensions, the last of which is contiguous; not to be followed if there are none.
  const size_t *shape;
  // The bytes that it decodes to: its elements, little-endian.
  uint64_t bytes;
} df11_tensor;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens a checkpoint: one safetensors file, or a directory with `config.json` and weights, compressed (units of DF11, by this
// library or the published program, or frames) or not. Maps its files into memory; decodes nothing yet. `path` is in UTF-8 on
// Windows, and in the bytes of the file system elsewhere.
//
// `*checkpoint` is the caller's to close; it is NULL if this fails.
//
// Pointers must be NULL or valid.
df11_status df11_open(const char *path,
                      struct df11_checkpoint **checkpoint,
                      df11_error *error);

// Closes a checkpoint. What it pointed out, names and parts of units among them, is gone then. NULL is closed already.
//
// `checkpoint` must be NULL or come from `df11_open`, and not be closed yet; nobody may use it any more.
void df11_close(struct df11_checkpoint *checkpoint);

// The number of tensors; 0 for NULL.
//
// `checkpoint` must be NULL or open.
size_t df11_tensor_count(const struct df11_checkpoint *checkpoint);

// Describes the tensor of this number, in the order of names, which begins at 0.
//
// `checkpoint` must be NULL or open; other pointers NULL or valid.
df11_status df11_tensor_at(const struct df11_checkpoint *checkpoint,
                           size_t index,
                           struct df11_tensor *tensor,
                           df11_error *error);

// Describes the tensor of this name.
//
// `checkpoint` must be NULL or open; other pointers NULL or valid.
df11_status df11_tensor_find(const struct df11_checkpoint *checkpoint,
                             const char *name,
                             struct df11_tensor *tensor,
                             df11_error *error);

// Decodes a tensor to `out`; `out_len` must be its `bytes`. Works on the calling thread, and takes up to 300 KiB from the
// allocator while it runs.
//
// If it fails, what is in `out` is unspecified.
//
// `checkpoint` must be NULL or open; other pointers NULL or valid.
df11_status df11_tensor_decode(const struct df11_checkpoint *checkpoint,
                               const char *name,
                               uint8_t *out,
                               size_t out_len,
                               df11_error *error);

// Decodes the elements from `start` to before `end` of a tensor, in the order in which they are stored: rows of a matrix, say.
//
// `checkpoint` must be NULL or open; other pointers NULL or valid.
df11_status df11_tensor_decode_range(const struct df11_checkpoint *checkpoint,
                                     const char *name,
                                     uint64_t start,
                                     uint64_t end,
                                     uint8_t *out,
                                     size_t out_len,
                                     df11_error *error);

// The number of units; 0 in a checkpoint of frames, in one that is not compressed, and for NULL.
//
// `checkpoint` must be NULL or open.
size_t df11_unit_count(const struct df11_checkpoint *checkpoint);

// Gives the parts of a unit, where they lie in the mapped file, for `df11_unit_open`; and its module path, if `path` is not
// NULL. They live as long as the checkpoint is open.
//
// `checkpoint` must be NULL or open; other pointers NULL or valid.
df11_status df11_unit_at(const struct df11_checkpoint *checkpoint,
                         size_t index,
                         df11_tensors *tensors,
                         const char **path,
                         df11_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DF11_FILES_H */
