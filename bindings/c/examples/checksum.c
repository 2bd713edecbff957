/* Maps a compressed checkpoint, decodes one tensor, and prints the CRC-32 of its elements:
 *
 *     cc checksum.c -ldf11 -o checksum && ./checksum model.safetensors model.layers.0.mlp.up_proj.weight
 */
#include <df11_files.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char *what, const df11_error *error) {
    fprintf(stderr, "%s: %s%s%s\n", what, error->message, error->clause[0] ? ", " : "", error->clause);
    return (int)error->status;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s FILE_OR_DIRECTORY TENSOR\n", argv[0]);
        return 64;
    }

    /* The file is memory-mapped until it is closed; nothing is read that is not needed. */
    df11_error error;
    df11_checkpoint *checkpoint = NULL;
    if (df11_checkpoint_open(argv[1], &checkpoint, &error) != DF11_OK) {
        return failed(argv[1], &error);
    }

    /* Decoding goes to memory of our own. */
    int result = 0;
    df11_tensor tensor;
    uint8_t *elements = NULL;
    if (df11_checkpoint_find(checkpoint, argv[2], &tensor, &error) != DF11_OK) {
        result = failed(argv[2], &error);
    } else if ((elements = (uint8_t *)malloc(tensor.bytes ? (size_t)tensor.bytes : 1)) == NULL) {
        fprintf(stderr, "no memory for %llu bytes\n", (unsigned long long)tensor.bytes);
        result = 1;
    } else if (df11_checkpoint_decode(checkpoint, argv[2], elements, (size_t)tensor.bytes, &error) != DF11_OK) {
        result = failed(argv[2], &error);
    } else {
        printf("%08x  %s  %llu bytes\n", (unsigned)df11_crc32(0, elements, (size_t)tensor.bytes), tensor.dtype,
               (unsigned long long)tensor.bytes);
    }
    free(elements);
    df11_checkpoint_close(checkpoint);
    return result;
}
