// A stand-in for NVIDIA's NVTX library, which remembers what it is told.
//
// Each thread has a log of its own: a line with the label of every range that begins, and an empty one for
// every range that ends.
#include <string.h>

static __thread char heard[1 << 20];
static __thread size_t length;

static int tell(const char *label)
{
    size_t more = strlen(label);
    if (length + more + 2 > sizeof heard)
        return -1;
    memcpy(heard + length, label, more);
    length += more;
    heard[length++] = '\n';
    heard[length] = 0;
    return 0;
}

int nvtxRangePushA(const char *label)
{
    return tell(label);
}

int nvtxRangePop(void)
{
    return tell("");
}

const char *fake_nvtx(void)
{
    return heard;
}
