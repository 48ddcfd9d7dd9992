# SPDX-License-Identifier: MIT
# A process for each URL puts what it has found into a dictionary that all share.
import multiprocessing
import sys
import urllib.request


def request_url(url, result_dict):
    with urllib.request.urlopen(url) as page:
        result_dict[url] = "%d bytes" % len(page.read())


if __name__ == "__main__":
    process_manager = multiprocessing.Manager()
    result_dict = process_manager.dict()
    url_list = sys.argv[1:]
    task_list = [multiprocessing.Process(target=request_url, args=(url, result_dict)) for url in url_list]
    [task.start() for task in task_list]
    [task.join() for task in task_list]
    print(result_dict)
